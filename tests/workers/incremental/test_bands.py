"""What windows change along one axis, against trying every place."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from convlens.workers.anatomy.windows import Window
from convlens.workers.incremental.bands import Band

SIZES = st.integers(8, 40)


@given(
    size=SIZES,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
    spans=st.lists(st.tuples(st.integers(0, 39), st.integers(1, 12)), min_size=1, max_size=5),
)
def test_through_a_window(
    size: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    spans: list[tuple[int, int]],
) -> None:
    window = Window(kernel, stride, padding, padding, dilation)
    if padding > kernel // 2 or window.extent > size + 2 * padding:
        return
    ranges = [range(min(a, size - 1), min(min(a, size - 1) + n, size)) for a, n in spans]
    band = Band.of(ranges, size)
    weight = torch.ones(1, 1, kernel)
    out = window.output(size)
    found = band.through(window, out)
    for index, span in enumerate(ranges):
        changed = torch.zeros(1, 1, size)
        changed[..., span.start : span.stop] = 1
        seen = functional.conv1d(changed, weight, None, stride, padding, dilation)[0, 0]
        seen = seen.nonzero().flatten().tolist()
        first, stop = int(found.first[index]), int(found.stop[index])
        assert 0 <= first < stop <= out
        if seen:
            # Nothing that changes is left out. With gaps in a kernel, something else may be in.
            assert first <= seen[0] and seen[-1] < stop
            assert dilation > 1 or (first, stop) == (seen[0], seen[-1] + 1)
        start = int(found.starts[index])
        assert 0 <= start <= first and stop <= start + found.length <= out


@given(size=SIZES, start=st.integers(0, 30), length=st.integers(1, 20), share=st.floats(0.05, 1))
def test_the_middle(size: int, start: int, length: int, share: float) -> None:
    start = min(start, size - 1)
    span = range(start, min(size, start + length))
    middle = Band.of([span], size).middle(share)
    first, stop = int(middle.first[0]), int(middle.stop[0])
    assert span.start <= first < stop <= span.stop
    assert len(span) * share <= stop - first < len(span) * share + 1
    assert abs((first - span.start) - (span.stop - stop)) <= 1
