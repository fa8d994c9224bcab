"""Makes the page of a report: one HTML file that needs no other."""

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.client.cli._report_model import Section
from convlens.client.cli._study_page import Section as Study
from convlens.client.cli._study_page import section_html, study_style
from convlens.client.cli._templates import rendered, text_of


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
    html = rendered("picture.html.j2", section=section)
    return Entry(html, section.anchor, section.name, label, thumbnail)


def page_of(page: Page, entries: Sequence[Entry], studies: Sequence[Study] = ()) -> str:
    """The whole file."""
    return rendered(
        "report.html.j2",
        page=page,
        entries=entries,
        studies=[section_html(study) for study in studies],
        style=study_style() if studies else text_of("report.css"),
    )
