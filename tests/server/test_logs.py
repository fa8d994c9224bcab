"""What the log says of an error, and what it must not say."""

from typing import Literal

import pytest
import structlog

from convlens.server.logs import configure_logs


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_is_told_with_its_traceback_and_without_what_was_worked_on(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(form, "info")

    def broken(pixels: str) -> None:
        raise ValueError(f"{len(pixels)} digits are too many")

    try:
        broken("".join(["271828"] * 1000))
    except ValueError as error:
        structlog.get_logger().error("call failed", exc_info=error)
    told = capsys.readouterr().err
    assert "call failed" in told and "Traceback" in told and "in broken" in told
    assert "ValueError: 6000 digits are too many" in told
    assert "271828271828" not in told and len(told) < 2000
