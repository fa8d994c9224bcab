"""What the log says of an error, and what it must not say."""

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from threading import Thread
from typing import Literal

import pytest
import structlog

from convlens.server.logs import configure_logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Later tests log as if nothing had been configured."""
    yield
    structlog.reset_defaults()


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
    # Written by a thread of its own, in one piece.
    told, until = "", time.monotonic() + 5
    while not told and time.monotonic() < until:
        told = capsys.readouterr().err
        time.sleep(0.01)
    assert "call failed" in told and "Traceback" in told and "in broken" in told
    assert "ValueError: 6000 digits are too many" in told
    assert "271828271828" not in told and len(told) < 2000


def test_a_reader_who_has_stopped_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    with os.fdopen(end) as reader:
        draining = Thread(target=list, args=(reader,))
        with os.fdopen(start, "w") as full:
            monkeypatch.setattr("sys.stderr", full)
            configure_logs("json", "info")
            log = structlog.get_logger()
            began = time.monotonic()
            for number in range(20_000):
                log.info("line", number=number, text="x" * 100)
            # A pipe holds some 500 of them; the rest waits, or is lost.
            assert time.monotonic() - began < 10
            assert '"number": 0' in reader.readline()
            # What waited is written now, whatever was lost: the thread does not end.
            while '"event": "after"' not in reader.readline():
                log.info("after")
            draining.start()
        draining.join(10)


class Counting(io.StringIO):
    """A file that counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_lines_of_a_moment_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Counting()
    monkeypatch.setattr(sys, "stderr", file)
    configure_logs("json", "info")
    for number in range(50):
        structlog.get_logger().info("line", number=number)
    until = time.monotonic() + 10
    while len(file.getvalue().splitlines()) < 50 and time.monotonic() < until:
        time.sleep(0.01)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["number"] for line in lines] == list(range(50))
    assert file.writes < 25
