"""What all studies come to: sentences, tables and pictures, and a folder of them."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.client._text import json_text, readable

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

FORMAT = "convlens study, 1"
DOCUMENT = "study.json"
# What the files of a study are called.
OWN = re.compile(r"[a-z0-9-]+\.(csv|png|html)")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that has no answer, and why; `reason` is one of the error catalogue's."""

    picture: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a study looked at: a network as "name@version", and how many pictures answered.

    `seconds` is what this call took; a study that went on from its state took more.
    """

    network: str
    network_digest: str
    pictures: int
    seconds: float
    skipped: Sequence[Skipped] = ()


class Study(ABC):
    """What a study found.

    `name` is that of its command; `heading` is what a page calls it.
    """

    name: ClassVar[str]
    heading: ClassVar[str]
    facts: Facts

    @property
    @abstractmethod
    def findings(self) -> Sequence[str]:
        """What was found, in sentences; the most important one first."""

    @abstractmethod
    def tables(self) -> Mapping[str, "DataFrame"]:
        """All numbers, by the title of their table."""

    @abstractmethod
    def figures(self) -> Mapping[str, "Image"]:
        """Pictures of what was found, by their titles."""

    def pages(self) -> Mapping[str, str]:
        """HTML that is looked at by itself, by the title of its page; mostly none."""
        return {}

    def save(self, folder: str | Path) -> None:
        """Writes figures (PNG), tables (CSV), pages (HTML) and study.json into the folder.

        The folder is made where it is not there; study.json comes last, when the rest is whole.
        What a study wrote there before, and this one does not, is removed.
        """
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        before = _written(out)
        taken: set[str] = set()
        document: dict[str, Any] = {
            "format": FORMAT,
            "study": self.name,
            "heading": self.heading,
            "findings": list(self.findings),
            **asdict(self.facts),
            "tables": {},
            "figures": {},
            "pages": {},
        }
        for title, frame in self.tables().items():
            name = _free(title, "csv", taken)
            (out / name).write_text(readable(frame.to_csv(index=False)), "utf-8")
            document["tables"][title] = name
        for title, figure in self.figures().items():
            name = _free(title, "png", taken)
            figure.save(out / name)
            document["figures"][title] = name
        for title, page in self.pages().items():
            name = _free(title, "html", taken)
            (out / name).write_text(readable(page), "utf-8")
            document["pages"][title] = name
        beside = out / f".{DOCUMENT}"
        beside.write_text(json_text(document, indent=1), "utf-8")
        beside.replace(out / DOCUMENT)
        for name in before - taken:
            (out / name).unlink(missing_ok=True)


def cell(path: Path) -> str:
    """The path as tables have it: pandas takes no names that are no text."""
    return readable(str(path))


def slug(title: str) -> str:
    """A name for a file: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "unnamed"


def _free(title: str, suffix: str, taken: set[str]) -> str:
    """A file's name for a title; titles that differ in signs alone get numbers."""
    name, number = f"{slug(title)}.{suffix}", 1
    while name in taken:
        number += 1
        name = f"{slug(title)}-{number}.{suffix}"
    taken.add(name)
    return name


def _written(out: Path) -> set[str]:
    """The files that the study of a folder lists, as it would have named them; none of no study."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        document: Any = json.loads((out / DOCUMENT).read_bytes())
        if document["format"] == FORMAT:
            kinds = ("tables", "figures", "pages")
            names = {name for kind in kinds for name in document[kind].values()}
            return {name for name in names if OWN.fullmatch(name)}
    return set()


def records(frame: "DataFrame") -> list[dict[str, Any]]:
    """A table as JSON has it, row by row; what is no number is null."""
    return json.loads(frame.to_json(orient="records") or "[]")
