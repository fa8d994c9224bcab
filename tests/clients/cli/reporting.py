"""What the tests of `convlens report` have in common: a picture, and the page as it is read."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


class Seen(HTMLParser):
    """The text of a page, and its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def titles(self) -> list[str]:
        """The method of each map, in order."""
        alts = [str(image["alt"]) for image in self.all("img") if image.get("class") == "colors"]
        return [alt.partition(" of ")[0] for alt in alts]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture that a browser can show."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (60, 40), "orange").save(path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


@pytest.fixture
def report(run: Any, out: Path) -> Any:
    """Runs the command and reads the page that it wrote."""

    def make(*arguments: Any, code: int = 0) -> Seen:
        result = run("report", *arguments, "-o", out)
        assert result.exit_code == code, result.output
        return Seen(out.read_text(encoding="utf-8"))

    return make
