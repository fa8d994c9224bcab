"""Windows that slide over a picture."""

import pytest

from convlens.contract import ErrorReason, Failure
from convlens.contract.geometry import check_occlusion, window_count, windows_along
from convlens.v1.explanation_methods_pb2 import Occlusion


@pytest.mark.parametrize("size", range(1, 12))
def test_windows_are_counted_as_they_slide(size: int) -> None:
    for window in range(1, size + 1):
        for stride in range(1, window + 1):
            start, count = 0, 1
            while start + window < size:
                start, count = start + stride, count + 1
            assert windows_along(size, window, stride) == count


def test_a_sweep_has_rows_times_columns() -> None:
    assert window_count(Occlusion(window=15, stride=8), 224, 224) == 28 * 28
    assert window_count(Occlusion(window=4, stride=3), 10, 8) == 3 * 3
    assert window_count(Occlusion(window=300, stride=3), 10, 8) == 1


def test_windows_that_fit_are_accepted() -> None:
    check_occlusion(Occlusion(window=8, stride=8), 10, 8, "occlusion")
    check_occlusion(Occlusion(window=1, stride=1), 10, 8, "occlusion")


def test_windows_that_do_not_fit_are_refused_with_what_does() -> None:
    with pytest.raises(Failure) as error:
        check_occlusion(Occlusion(window=9, stride=10), 10, 8, "methods[2].occlusion")
    assert error.value.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST
    assert [(each.field, each.description) for each in error.value.violations] == [
        ("methods[2].occlusion.window", "is 9; must be at most 8, the picture is 10 x 8 pixels"),
        ("methods[2].occlusion.stride", "is 10; must be at most 9, the side of the window"),
    ]
