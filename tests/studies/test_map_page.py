"""The interactive map, driven in a real browser: zoom, hover, click, legend and search."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from convlens.client import Client, studies
from convlens.client._picture_files import found
from tests.e2e.browser import Browser, browser

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
# All thumbnails as [left, top, right, bottom, number].
BOXES = """[...document.querySelectorAll('.thumb')].map(each => {
    const at = each.getBoundingClientRect();
    return [at.left, at.top, at.right, at.bottom, Number(each.dataset.number)] })"""
STATUS = "document.getElementById('status').textContent"
CARD = "document.getElementById('card').hidden ? null : document.getElementById('card').innerText"
# Whether what was asked for has been drawn.
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
SCALE = "Number(document.getElementById('status').textContent.match(/([0-9.]+)×/)[1])"
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"


@pytest.fixture(scope="module")
def made(client: Client, drawn: Path) -> studies.CodeMap:
    return studies.code_map(client, drawn, layer="features.12", way="pca")


@pytest.fixture(scope="module")
def page(made: studies.CodeMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("map") / "map.html"
    file.write_text(made.pages()["Interactive map"], "utf-8")
    return file


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Browser:
    chromium.open(page, width=1280, height=800)
    chromium.until("document.querySelectorAll('.thumb').length > 0")
    return chromium


def boxes(chromium: Browser) -> list[list[float]]:
    chromium.evaluate(DRAWN)
    return chromium.evaluate(BOXES)


def overlaps(found: list[list[float]]) -> list[tuple[float, float]]:
    return [
        (a[4], b[4])
        for number, a in enumerate(found)
        for b in found[:number]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def stage(chromium: Browser) -> tuple[float, float]:
    return chromium.middle("#stage")


def test_thumbnails_never_overlap_at_any_zoom(opened: Browser) -> None:
    seen, scales = [], []
    for _ in range(14):
        here = boxes(opened)
        assert overlaps(here) == []
        seen.append({box[4] for box in here})
        scales.append(opened.evaluate(SCALE))
        opened.wheel(*stage(opened), -120)
    assert len(seen[0]) >= 5
    assert scales == sorted(scales) and scales[-1] > 10
    for size in ("24", "128"):
        opened.evaluate(
            f"(s => {{ s.value = {size}; s.dispatchEvent(new Event('input')) }})"
            "(document.getElementById('size'))"
        )
        assert overlaps(boxes(opened)) == []
    assert opened.complaints == []


def test_coming_nearer_shows_more_pictures_and_loses_none(opened: Browser) -> None:
    before = {box[4] for box in boxes(opened)}
    # All of the map stays in a window that grows with it.
    opened.evaluate("document.getElementById('stage').focus()")
    taken = "data.x.map((_, i) => i).filter(i => taken[i])"
    for _ in range(9):
        opened.key("+")
        opened.evaluate(DRAWN)
        now = set(opened.evaluate(taken))
        assert before <= now
        before = now
    assert len(before) == 40


def test_the_wheel_keeps_what_is_under_the_pointer(opened: Browser) -> None:
    box = boxes(opened)[0]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    opened.wheel(x, y, -240)
    [after] = [each for each in boxes(opened) if each[4] == box[4]]
    assert (after[0] + after[2]) / 2 == pytest.approx(x, abs=1)
    assert (after[1] + after[3]) / 2 == pytest.approx(y, abs=1)
    assert opened.evaluate(SCALE) > 1.5


def test_dragging_moves_and_0_shows_all_again(opened: Browser) -> None:
    before = {box[4]: box for box in boxes(opened)}
    x, y = stage(opened)
    opened.press(x, y)
    for step in range(1, 6):
        opened.move(x + 12 * step, y - 6 * step, button="left")
    opened.lift(x + 60, y - 30)
    moved = {box[4]: box for box in boxes(opened)}
    for number in before.keys() & moved.keys():
        assert moved[number][0] == pytest.approx(before[number][0] + 60, abs=1)
        assert moved[number][1] == pytest.approx(before[number][1] - 30, abs=1)
    assert opened.evaluate(CARD) is None
    opened.key("0")
    assert {box[4]: box for box in boxes(opened)} == before


def test_two_fingers_zoom(opened: Browser) -> None:
    x, y = stage(opened)
    opened.touch("Start", (x - 40, y), (x + 40, y))
    for step in range(1, 9):
        opened.touch("Move", (x - 40 - 10 * step, y), (x + 40 + 10 * step, y))
    opened.touch("End")
    opened.evaluate(DRAWN)
    assert opened.evaluate(SCALE) == pytest.approx(3, abs=0.3)


def test_buttons_zoom(opened: Browser) -> None:
    opened.click("#nearer")
    opened.evaluate(DRAWN)
    assert opened.evaluate(SCALE) == 1.6
    opened.click("#farther")
    opened.click("#farther")
    opened.evaluate(DRAWN)
    assert opened.evaluate(SCALE) == pytest.approx(0.6, abs=0.05)
    opened.click("#all")
    opened.evaluate(DRAWN)
    assert opened.evaluate(SCALE) == 1


def test_hovering_tells_of_a_picture(opened: Browser, made: studies.CodeMap) -> None:
    for box in boxes(opened)[:3]:
        opened.move((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        told = opened.evaluate(CARD)
        number = int(box[4])
        assert made.names[number] in told
        assert f"Label\n{(made.labels or [])[number]}" in told
        assert f"{made.predictions[number]} · {made.probabilities[number]:.1%}"[:-1] in told
        assert "The network is right" in told
        card = opened.evaluate(
            "(at => [at.left, at.top, at.right, at.bottom])"
            "(document.getElementById('card').getBoundingClientRect())"
        )
        assert card[0] >= 0 and card[2] <= 1020 and card[1] >= 88 and card[3] <= 800
    opened.move(1200, 780)
    assert opened.evaluate(CARD) is None


def test_a_dot_tells_of_its_picture_too(opened: Browser, made: studies.CodeMap) -> None:
    shown = {box[4] for box in boxes(opened)}
    covered = "document.elementFromPoint(x, y).id === 'dots' ? [i, x, y] : null"
    place = (
        "data.x.map((_, i) => i).filter(i => !taken[i]).map(i => {"
        "const frame = stage.getBoundingClientRect();"
        "const x = frame.left + left + data.x[i] * scale, y = frame.top + top_ + data.y[i] * scale;"
        f"return {covered} }}).find(each => each)"
    )
    number, x, y = opened.evaluate(place)
    assert number not in shown
    opened.move(x, y)
    assert made.names[number] in opened.evaluate(CARD)


def test_a_click_keeps_the_card_until_another(opened: Browser, made: studies.CodeMap) -> None:
    box = boxes(opened)[0]
    opened.click(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    opened.move(1200, 780)
    assert made.names[int(box[4])] in opened.evaluate(CARD)
    opened.key("Escape")
    assert opened.evaluate(CARD) is None


def test_the_legend_and_the_search_filter(opened: Browser, made: studies.CodeMap) -> None:
    labels = list(made.labels or [])
    first = opened.evaluate(
        "document.querySelector('#legend button span:nth-child(2)').textContent"
    )
    opened.click("#legend button")
    shown = {int(box[4]) for box in boxes(opened)}
    assert shown and {labels[number] for number in shown} == {first}
    opened.evaluate(DRAWN)
    assert opened.evaluate(STATUS).startswith(f"{labels.count(first)} of 40 pictures")
    # The search is among what the legend leaves.
    name = made.names[labels.index(first)]
    opened.click("#search")
    for letter in name:
        opened.key(letter)
    assert {int(box[4]) for box in boxes(opened)} == {labels.index(first)}
    opened.click("#clear")
    opened.evaluate(DRAWN)
    assert opened.evaluate(STATUS).startswith("40 pictures")
    assert opened.evaluate("document.querySelector('#legend [aria-pressed=true]')") is None


def test_colours_follow_what_is_asked_for(opened: Browser) -> None:
    colour = "document.querySelector('.thumb').style.getPropertyValue('--colour')"
    by_label = opened.evaluate(colour)
    opened.click("#modes label:nth-of-type(3)")
    opened.evaluate(DRAWN)
    assert opened.evaluate(colour) == "#0072b2" != by_label
    assert opened.evaluate("document.getElementById('legend').innerText").split("\n") == [
        *("right", "40"),
    ]


def test_the_page_is_dark_where_its_reader_is(chromium: Browser, page: Path) -> None:
    seen = []
    for dark in (False, True):
        chromium.open(page, width=390, height=800, dark=dark)
        chromium.evaluate(DRAWN)
        assert chromium.evaluate(WIDEST) <= 390
        swatch = "document.querySelector('.swatch').style.getPropertyValue('--colour')"
        ground = "getComputedStyle(document.getElementById('stage')).backgroundColor"
        seen.append((chromium.evaluate(swatch), chromium.evaluate(ground)))
    assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]
    assert chromium.complaints == []


def test_names_and_labels_are_only_text(
    client: Client, drawn: Path, chromium: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = ["<img src=x onerror=alert(3)>.png", "b.png", "c.png"]
    for name, path in zip(names, found(drawn), strict=False):
        (folder / name).write_bytes(path.read_bytes())
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f'"{name}","{EVIL}"\n' for name in names))
    made = studies.code_map(client, folder, way="pca", labels=labels)
    file = tmp_path / "map.html"
    file.write_text(made.pages()["Interactive map"], "utf-8")
    chromium.open(file, width=1280, height=800)
    chromium.until("document.querySelectorAll('.thumb').length > 0")
    assert EVIL in chromium.evaluate("document.getElementById('legend').innerText")
    for box in boxes(chromium):
        chromium.move((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        assert EVIL in chromium.evaluate(CARD)
    assert chromium.evaluate("document.images.length") == 0
    assert chromium.complaints == []
