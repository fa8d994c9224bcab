"""Makes the page of a report: one HTML file that needs no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from convlens.client.cli._report_model import Section
from convlens.client.cli._report_words import number, percent

if TYPE_CHECKING:
    from jinja2 import Environment

# Where the templates are, and the style that becomes a part of the page.
FOLDER = files("convlens.client.cli") / "page"


@dataclass(frozen=True, slots=True)
class Page:
    """All of a report but its pictures."""

    title: str
    network: str
    #: Date and time, as people write it.
    made: str
    facts: Sequence[tuple[str, str]]
    command: str
    #: Show maps over the pictures at first.
    overlay: bool
    has_attacks: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that is written down: its HTML, and what the table of contents says of it."""

    html: str
    anchor: str
    name: str
    label: str
    thumbnail: str


def entry_of(section: Section) -> Entry:
    """One picture's part of the page, as far as it goes without the others."""
    label = section.classes[0].label if section.classes else ""
    thumbnail = section.thumbnail.uri if section.thumbnail else ""
    html = _environment().get_template("picture.html.j2").render(section=section)
    return Entry(html, section.anchor, section.name, label, thumbnail)


def page_of(page: Page, entries: Sequence[Entry]) -> str:
    """The whole file."""
    template = _environment().get_template("report.html.j2")
    return template.render(page=page, entries=entries, style=_text("report.css"))


@cache
def _environment() -> "Environment":
    # Takes some 30 ms to import, which only who makes a page shall wait for.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment: Any = Environment(
        loader=FunctionLoader(_text),
        # Labels and names of files are whatever somebody wrote there.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
