"""The page on which a person labels pictures, in a real browser, with the real command."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

import pytest
from PIL import Image

from convlens.client._spool import Spool
from convlens.client.studies._human_game import Answers, Game, Question
from convlens.client.studies._human_server import serving
from convlens.client.studies._pages import page
from convlens.workers.shapes.draw import CLASSES
from tests.e2e.browser import Browser, browser

TABLE = "[...document.querySelectorAll('#table tbody td')].map(each => Number(each.textContent))"
PROGRESS = "document.getElementById('progress').textContent"
TOLD = "!document.getElementById('told').hidden"
ASKED = "!document.getElementById('ask').hidden"
SEEN = (
    "document.getElementById('picture').complete && document.getElementById('picture').naturalWidth"
)
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@contextmanager
def command(address: str, *arguments: object) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The running command and the address that it prints."""
    given = [sys.executable, "-m", "convlens.client.cli", "study", "human", *map(str, arguments)]
    environment = {**os.environ, "CONVLENS_SERVER": address}
    with subprocess.Popen(given, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        lines = Queue[str]()
        errors = process.stderr
        threading.Thread(target=lambda: [lines.put(each) for each in errors], daemon=True).start()
        try:
            while "http://" not in (line := lines.get(timeout=60)):
                pass
            yield process, line.split(" at ")[1].split()[0]
        finally:
            process.kill()


def click_class(chromium: Browser, name: str) -> None:
    chromium.click(f"#classes li:nth-child({CLASSES.index(name) + 1}) button")
    chromium.until(TOLD)


def test_a_person_answers_stops_and_goes_on(
    address: str, drawn: Path, tmp_path: Path, chromium: Browser
) -> None:
    out = tmp_path / "out"
    given = (drawn, "--count", 5, "--out", out)
    with command(address, *given) as (process, url):
        chromium.open(url, width=1280, height=800)
        chromium.until(SEEN)
        assert chromium.evaluate(PROGRESS) == "0 of 5 answered"
        click_class(chromium, "star")
        assert sum(chromium.evaluate(TABLE)) == 1
        truth = chromium.evaluate("classes[state.last.truth]")
        told = chromium.evaluate("document.getElementById('facts').innerText")
        assert told.startswith(f"It is\n{truth}") and "You\nstar" in told
        # Wrong on purpose, and then taken back and answered as it is.
        chromium.key("Backspace")
        chromium.until(ASKED)
        assert chromium.evaluate(TABLE) == [0, 0, 0, 0]
        click_class(chromium, truth)
        assert chromium.evaluate(TABLE) in ([1, 0, 0, 0], [0, 1, 0, 0])
        chromium.key("Enter")
        chromium.until(ASKED)
        # By the keyboard: the first class.
        chromium.key("1")
        chromium.until(TOLD)
        table = chromium.evaluate(TABLE)
        assert sum(table) == 2
        # A page that is opened again is where it was, and so is another run.
        chromium.open(url, width=1280, height=800)
        chromium.until(SEEN)
        assert chromium.evaluate(TABLE) == table
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
        chromium.key("1")
        chromium.until("!document.getElementById('trouble').hidden")
    assert not (out / "study.json").exists()
    # The answer that met no server is no matter of the page's.
    chromium.complaints.clear()
    with command(address, *given) as (process, url):
        chromium.open(url, width=1280, height=800)
        chromium.until(SEEN)
        assert chromium.evaluate(PROGRESS) == "2 of 5 answered"
        assert chromium.evaluate(TABLE) == table
        click_class(chromium, "ring")
        chromium.click("#next")
        chromium.click("#enough")
        chromium.until("document.getElementById('sure').open")
        chromium.click("#end")
        chromium.until("document.getElementById('ending-title').textContent === 'Thank you'")
        process.wait(60)
    assert chromium.complaints == []
    document = json.loads((out / "study.json").read_text())
    assert document["pictures"] == 3
    assert not (out / "state").exists()
    rows = (out / "answers.csv").read_text().splitlines()
    assert rows[1].split(",")[1:3] == [truth, truth]


@pytest.fixture
def many(tmp_path: Path) -> Iterator[tuple[Game, str]]:
    """A page of 60 classes and up to three answers."""
    classes = [f"class {number}" for number in range(58)] + ["zebra", "<b>bee</b>"]
    questions = []
    for number in range(3):
        path = tmp_path / f"secret-{classes[number]}.png"
        Image.new("RGB", (40, 30), (90 * number, 80, 200)).save(path)
        questions.append(Question(path, number, [number, 1 + number, 50], 0.7))
    spool = Spool(tmp_path / "answers", {})
    game = Game(questions, Answers(spool, questions), len(classes), 3)
    data = {"classes": classes, "guesses": 3}
    html = page("human", heading="Heading", lead="lead", data=data, guesses=3)
    with serving(game, html) as url:
        yield game, url
    spool.close()


def test_several_answers_among_many_classes(many: tuple[Game, str], chromium: Browser) -> None:
    game, url = many
    chromium.open(url, width=1280, height=800)
    chromium.until(SEEN)
    assert chromium.evaluate("document.querySelectorAll('#classes li').length") == 60
    chromium.key("/")
    for letter in "zeb":
        chromium.key(letter)
    shown = "[...document.querySelectorAll('#classes span')].map(each => each.textContent)"
    assert chromium.evaluate(shown) == ["zebra"]
    chromium.key("Enter")
    chromium.click("#classes li:nth-child(60) button")
    chromium.key("1")
    chosen = "[...document.querySelectorAll('#chosen li')].map(each => each.textContent)"
    assert chromium.evaluate(chosen) == ["zebra", "<b>bee</b>", "class 0"]
    # A fourth is none; the same again takes it away.
    chromium.key("2")
    assert len(chromium.evaluate(chosen)) == 3
    chromium.click("#classes li:nth-child(60) button")
    assert chromium.evaluate(chosen) == ["zebra", "class 0"]
    chromium.click("#answer")
    chromium.until(TOLD)
    assert game.given == [[58, 0]]
    verdict = "document.getElementById('verdict').textContent"
    assert chromium.evaluate(verdict) == "Not your first answer"
    assert chromium.evaluate(TABLE) == [0, 0, 1, 0]
    for number in (1, 2):
        chromium.click("#next")
        chromium.until(ASKED)
        chromium.key(str(number + 1))
        chromium.key("Enter")
        chromium.until(TOLD)
    chromium.click("#next")
    chromium.until("!document.getElementById('ending').hidden")
    assert chromium.evaluate(TABLE) == [2, 0, 1, 0]
    chromium.click("#finish")
    chromium.until("state.over")
    assert game.is_over and chromium.complaints == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_in_light_and_dark(
    many: tuple[Game, str], chromium: Browser, width: int
) -> None:
    grounds = []
    for dark in (False, True):
        chromium.open(many[1], width=width, height=800, dark=dark)
        chromium.until(SEEN)
        assert chromium.evaluate(WIDEST) <= width
        grounds.append(chromium.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1] and chromium.complaints == []


def asked(url: str, path: str = "", *, body: bytes | None = None, **headers: str):
    """Status and bytes of what a client is answered that is no browser."""
    at = urlsplit(url)
    connection = HTTPConnection(at.hostname or "", at.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST" if body is not None else "GET", at.path + path, body, sent)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_nothing_tells_what_a_picture_shows(many: tuple[Game, str]) -> None:
    _, url = many
    for path in ("state", "picture/0"):
        status, data, headers = asked(url, path)
        assert status == 200 and b"secret" not in data and "secret" not in str(headers)
    assert b"truth" not in asked(url, "state")[1] and b"secret" not in asked(url)[1]
    # Pictures to come are not there yet: their number may say more than they do.
    assert [asked(url, f"picture/{each}")[0] for each in ("1", "-1", "x", "9" * 40)] == [404] * 4


def test_only_the_page_itself_is_answered(many: tuple[Game, str]) -> None:
    game, url = many
    at = urlsplit(url)
    here = f"{at.scheme}://{at.netloc}"
    for other in (f"{here}/", f"{here}/guess/", f"{here}/guess/state", url[:-1], f"{url}../x"):
        assert asked(other)[0] == 404
    assert asked(url, Host="evil.example")[0] == 404
    json_type = {"Content_Type": "application/json"}
    good = b'{"number": 0, "classes": [0]}'
    assert asked(url, "answer", body=good, Content_Type="text/plain")[0] == 404
    assert asked(url, "answer", body=good, Origin="http://evil.example", **json_type)[0] == 404
    assert asked(url, "other", body=good, **json_type)[0] == 404
    for bad in (b"", b"[]", b"{", b"\xff", b"[" * 4000, b" " * 5000):
        assert asked(url, "answer", body=bad, **json_type)[0] == 400
    for wrong in (
        b"{}",
        b'{"number": 0, "classes": ["0"]}',
        b'{"number": true, "classes": [true]}',
    ):
        assert asked(url, "answer", body=wrong, **json_type)[0] == 409
    assert asked(url, "enough", body=b"{}", **json_type)[0] == 409
    assert game.given == []
    assert asked(url, "answer", body=good, **json_type)[0] == 200
    # The second of two clicks finds the next picture, and answers nothing.
    status, data, _ = asked(url, "answer", body=good, **json_type)
    assert status == 409 and json.loads(data)["answered"] == 1
    assert game.given == [[0]]


def test_a_full_disk_ends_it(many: tuple[Game, str], monkeypatch: pytest.MonkeyPatch) -> None:
    game, url = many
    body = b'{"number": 0, "classes": [0]}'
    assert asked(url, "answer", body=body, Content_Type="application/json")[0] == 200
    # /dev/full is a disk without any room.
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0) as full:
        monkeypatch.setattr(game._answers._spool, "_files", [full])
        body = b'{"number": 1, "classes": [0]}'
        assert asked(url, "answer", body=body, Content_Type="application/json")[0] == 500
        monkeypatch.undo()
    assert game.failure is not None and "cannot be written" in str(game.failure)
    assert game.given == [[0]]
