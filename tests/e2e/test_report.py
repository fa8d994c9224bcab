"""The page of a report, in a real browser."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningServer, running_server
from tests.e2e.browser import CHROMIUM, Browser, browser

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium, which .ci/run installs")

# Pixels across: a phone, and a desktop.
PHONE, DESKTOP = 390, 1440
# Whether anything is wider than the window, or would be if the page did not hide it.
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
# Elements whose text is cut off; what is there for screen readers alone is not meant to be seen.
CUT = """[...document.querySelectorAll(
        'h1, h2, h3, h4, h5, p, dt, dd, th, td, span, summary, figcaption')]
    .filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
        && getComputedStyle(each).display !== 'inline')
    .map(each => each.textContent)"""
# How many pictures there are, and how many can be seen.
PICTURES = """Promise.all([...document.images].map(each => each.decode().then(() => each)))
    .then(all => all.filter(each => each.naturalWidth && each.clientWidth))
    .then(seen => [document.images.length, seen.length])"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def page(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two pictures, one under a long name."""
    folder = tmp_path_factory.mktemp("report")
    long = folder / f"{'long-name-' * 12}<b>.png"
    long.write_bytes(pictures[-1].read_bytes())
    out = folder / "report.html"
    given = ["--measure", "deletion:steps=8", "--target", "rank:1", "--target", "rank:2"]
    methods = [f"--method={name}" for name in ("saliency", "grad-cam", "input-x-gradient")]
    methods += ["--attack=deepfool", "--attack=pgd:epsilon=1/255"]
    with running_server(engine="embedded") as server:
        run(server, pictures[0], long, "-o", out, *given, *methods)
    return out


def run(server: RunningServer, *arguments: object) -> None:
    command = [sys.executable, "-m", "convlens.client.cli", "report", "--server", server.address]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_of_the_page_is_seen(chromium: Browser, page: Path, width: int) -> None:
    chromium.open(page, width=width)
    chromium.evaluate("void document.querySelectorAll('details').forEach(e => e.open = true)")
    assert chromium.evaluate("innerWidth") == width
    assert chromium.evaluate(WIDEST) <= width
    assert chromium.evaluate(CUT) == []
    # For each picture: itself, its place above, six maps, four patches with their projections,
    # two attacks.
    assert chromium.evaluate(PICTURES) == [2 * (1 + 1 + 6 + 2 * 4 + 2 * 3)] * 2
    assert chromium.complaints == []


def test_the_page_is_dark_where_its_reader_is(chromium: Browser, page: Path) -> None:
    chromium.open(page, width=PHONE)
    light = chromium.evaluate(BACKGROUND)
    chromium.open(page, width=PHONE, dark=True)
    assert chromium.evaluate(BACKGROUND) != light


def test_maps_are_laid_over_their_pictures(chromium: Browser, page: Path) -> None:
    chromium.open(page, width=DESKTOP)
    under = "getComputedStyle(document.querySelector('.map .tile'), '::before')"
    assert chromium.evaluate(f"{under}.visibility") == "hidden"
    chromium.evaluate("document.getElementById('over').click()")
    assert chromium.evaluate(f"{under}.visibility") == "visible"
    assert chromium.evaluate(f"{under}.backgroundImage").startswith('url("data:image/webp')
    assert chromium.complaints == []
