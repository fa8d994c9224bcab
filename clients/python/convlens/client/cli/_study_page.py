"""Makes pages of the folders that studies wrote: a page of its own, or a part of a report."""

import base64
import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from convlens.client._text import printable, shown
from convlens.client.cli._report_words import number
from convlens.client.cli._templates import rendered, text_of

FORMAT, DOCUMENT = "convlens study, 1", "study.json"
# Lines of a table that a page shows, and those that it shows without being asked.
MOST_ROWS, FEW_ROWS = 200, 16


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a study, in the page."""

    title: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a study, as people write them."""

    title: str
    file: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int

    @property
    def is_short(self) -> bool:
        """Whether it is shown at once."""
        return len(self.rows) <= FEW_ROWS


@dataclass(frozen=True, slots=True)
class Link:
    """A page that is looked at by itself."""

    title: str
    href: str


@dataclass(frozen=True, slots=True)
class Section:
    """One study, as its template takes it."""

    anchor: str
    heading: str
    network: str
    pictures: int
    findings: Sequence[str]
    pages: Sequence[Link]
    figures: Sequence[Figure]
    tables: Sequence[Table]
    skipped: Sequence[Any]


def study_page(folder: Path, command: str) -> str:
    """The page of a folder that a study wrote; `command` is what makes it again."""
    section = study_of(folder, folder)
    return rendered(
        "study.html.j2",
        title=section.heading,
        lead=f"{_count(section.pictures)} · {section.network}",
        made=datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
        sections=[section_html(section, alone=True)],
        command=command,
        style=study_style(),
    )


def study_style() -> str:
    """What the section of a study needs, beside a report's own style."""
    return text_of("report.css") + text_of("study.css")


def section_html(section: Section, *, alone: bool = False) -> str:
    """The part of a page that shows a study; `alone` on a page whose head says what it is."""
    return rendered("study_section.html.j2", study=section, alone=alone)


def study_of(folder: Path, beside: Path, number: int = 1) -> Section:
    """What a study wrote, for a page in the folder `beside`; ClickException where it is none."""
    try:
        document: Any = json.loads((folder / DOCUMENT).read_bytes())
        if document["format"] != FORMAT:
            raise ValueError("another format")
        return Section(
            f"study-{number}",
            str(document["heading"]),
            str(document["network"]),
            int(document["pictures"]),
            [_unbroken(str(finding)) for finding in document["findings"]],
            [
                Link(title, quote(os.path.relpath(folder / name, beside)))
                for title, name in document["pages"].items()
            ],
            [_figure(title, folder / name) for title, name in document["figures"].items()],
            [_table(title, folder / name) for title, name in document["tables"].items()],
            list(document["skipped"]),
        )
    except OSError as error:
        words = f"{shown(folder)} is no folder of a study: {error.strerror}."
        raise click.ClickException(words) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        words = f"{shown(folder)} is no folder of a study, or is damaged: {printable(str(error))}."
        raise click.ClickException(words) from error


def _count(pictures: int) -> str:
    return f"{pictures} picture{'s' if pictures != 1 else ''}"


def _unbroken(text: str) -> str:
    """With numbers that no line ends within."""
    return text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")


def _figure(title: str, file: Path) -> Figure:
    from PIL import Image

    data = file.read_bytes()
    with Image.open(BytesIO(data)) as image:
        uri = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
        return Figure(title, uri, image.width, image.height)


def _table(title: str, file: Path) -> Table:
    with file.open(encoding="utf-8", newline="") as lines:
        heads, *rows = csv.reader(lines)
    kept = [list(map(_cell, row)) for row in rows[:MOST_ROWS]]
    return Table(title, file.name, heads, kept, len(rows) - len(kept))


def _cell(text: str) -> str:
    """Three digits of what is no whole number."""
    try:
        return text if text.lstrip("-").isdecimal() else number(float(text))
    except ValueError:
        return text
