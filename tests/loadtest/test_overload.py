"""A server with room for so many: its peak is found, and what it does with more; and the page."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.loadtest.cli.program import program
from convlens.loadtest.results.model import Result
from tests.e2e.browser import CHROMIUM, Browser, browser
from tests.loadtest.conftest import Run

# Requests at once, and seconds of each: some 40 a second.
ROOM, SECONDS = 4, 0.1
PEAK = ROOM / SECONDS
PHONE, DESKTOP = 390, 1440
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
CUT = """[...document.querySelectorAll('h1, h2, h3, p, dt, dd, th, td, span, small, li, b')]
    .filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
        && getComputedStyle(each).display !== 'inline')
    .map(each => each.textContent)"""
# Words of drawings that lie on each other, or beyond their drawing.
CLASHES = """[...document.querySelectorAll('figure > svg')].flatMap(drawing => {
    const around = drawing.getBoundingClientRect();
    const boxes = [...drawing.querySelectorAll('text')].map(
        each => [each.textContent, each.getBoundingClientRect()]);
    const beyond = boxes.filter(
        ([, a]) => a.left < around.left - 12 || a.right > around.right + 24);
    const apart = (a, b) => a.right <= b.left || b.right <= a.left
        || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
    const clashing = boxes.filter(([, a], n) => boxes.some(([, b], m) => m > n && !apart(a, b)));
    return [...beyond, ...clashing].map(([text]) => text);
})"""


def with_room(fake: FakeServer) -> None:
    """Refuses whom it has no room for."""
    room = threading.Semaphore(ROOM)
    usual = fake.answers["Classify"]
    refusal = Failure(ErrorReason.ERROR_REASON_OVERLOADED, detail="it is full", retry_after=0.1)

    def answer(request: Any) -> Any:
        if not room.acquire(timeout=0.15):
            raise refusal
        try:
            time.sleep(SECONDS)
            return usual(request) if callable(usual) else usual
        finally:
            room.release()

    fake.answers["Classify"] = answer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The result and the page of a short overload-5x."""
    folder = tmp_path_factory.mktemp("overload")
    output, page = folder / "result.json", folder / "page.html"
    changes = {
        "pictures": "{size: [16, 16]}",
        "phases.warm-up.duration": 0.4,
        "phases.saturation.steps": "{from: 40, to: 200, factor: 2, each: 0.8, stop_after: 1}",
        "phases.saturation.steps.hold": 1.2,
        "phases.overload.duration": 1.5,
        "phases.recovery.duration": 2,
        "phases.overload.assert": "[]",
    }
    arguments = ["overload-5x", "--output", output, "--html", page]
    arguments += [f"--set={key}={value}" for key, value in changes.items()]
    with FakeServer(max_workers=64) as fake:
        with_room(fake)
        arguments += ["--server", fake.address]
        result = CliRunner().invoke(program, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert "the peak is " in result.stdout and "answers were good again" in result.stdout
    return output, page


@pytest.fixture(scope="module")
def result(files: tuple[Path, Path]) -> Result:
    return Result.model_validate_json(files[0].read_text())


def test_the_peak_is_found_by_steps(result: Result) -> None:
    saturation = result.phase("saturation")
    assert saturation and result.peak == saturation.peak
    assert result.peak == pytest.approx(PEAK, rel=0.25)
    assert saturation.saturating in (40, 80)
    *steps, _ = saturation.steps
    assert [step.saturated for step in steps] == [*(False for _ in steps[1:]), True]


def test_the_rate_of_the_best_step_is_held_for_the_peak(result: Result) -> None:
    saturation = result.phase("saturation")
    assert saturation
    *steps, held = saturation.steps
    assert held.rate == max(steps, key=lambda step: step.figures.goodput).rate
    assert held.figures.due == pytest.approx(1.2 * held.rate, abs=1)
    assert saturation.peak == held.figures.goodput


def test_five_times_the_peak_is_offered(result: Result) -> None:
    overload = result.phase("overload")
    assert overload and result.peak
    assert overload.figures.offered == pytest.approx(5 * result.peak, rel=0.2)
    assert overload.figures.goodput >= 0.6 * result.peak
    assert overload.figures.reasons["OVERLOADED"] > overload.figures.good
    assert result.sentences["OVERLOADED"].startswith("The server has enough to do: it is full.")


def test_the_recovery_is_timed(result: Result) -> None:
    recovery = result.phase("recovery")
    assert recovery and recovery.recovery is not None and result.peak
    assert recovery.recovery < 1.5
    assert recovery.figures.offered == pytest.approx(result.peak / 2, rel=0.4)


def test_the_curves_count_everything(result: Result) -> None:
    series = result.series
    due = sum(phase.figures.due for phase in result.phases)
    assert sum(series.due) == due
    assert sum(series.good) == sum(phase.figures.good for phase in result.phases)
    assert sum(series.came) == sum(series.good)
    assert sum(map(sum, series.reasons.values())) == due - sum(
        phase.figures.answered for phase in result.phases
    )


def test_the_page_is_made_again_from_the_result(
    files: tuple[Path, Path], invoke: Run, tmp_path: Path
) -> None:
    done = invoke("page", files[0], "-o", tmp_path / "again.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "again.html").read_text() == files[1].read_text()
    assert invoke("page", files[0], "-o", tmp_path / "again.html").exit_code == 1


def test_texts_on_the_page_are_texts(files: tuple[Path, Path], invoke: Run, tmp_path: Path) -> None:
    document = json.loads(files[0].read_text())
    document["about"] = "<script>alert(1)</script>"
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(document))
    assert invoke("page", odd, "-o", tmp_path / "odd.html").exit_code == 0
    text = (tmp_path / "odd.html").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium, which .ci/run installs")
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_of_the_page_is_seen(chromium: Browser, files: tuple[Path, Path], width: int) -> None:
    chromium.open(files[1], width=width)
    light = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert chromium.evaluate(WIDEST) <= width
    assert chromium.evaluate(CUT) == []
    assert chromium.evaluate(CLASHES) == []
    # Good answers and latencies by rate; latency, rates and failures over time; a distribution.
    assert chromium.evaluate("document.querySelectorAll('figure').length") == 6
    assert chromium.evaluate("document.querySelectorAll('.curve').length") > 15
    assert chromium.complaints == []
    chromium.open(files[1], width=width, dark=True)
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") != light
