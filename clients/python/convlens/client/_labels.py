"""The labelled pictures of a folder: which there are, and what each of them shows."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias, cast

from convlens.client._errors import InvalidRequest
from convlens.client._picture_files import Name, found
from convlens.client._results import Network
from convlens.client._targets import target_of
from convlens.client._text import printable, readable, shown
from convlens.contract import digest, rule_of
from convlens.v1 import adversarial_pb2, target_pb2

LONGEST_ID = round(rule_of(adversarial_pb2.LabeledImage.DESCRIPTOR.fields_by_name["id"]).max_length)
COLUMNS = ("file", "label")
# Classes that an error lists in full.
MOST_LISTED = 12
Note: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Label:
    """A true class, and where it is written."""

    target: target_pb2.Target
    where: str

    @property
    def name(self) -> str:
        """The label, or the index as text."""
        kind = self.target.WhichOneof("target") or ""
        return str(getattr(self.target, kind))


@dataclass(frozen=True, slots=True)
class LabeledFile:
    """A picture with its true class.

    `id` is its name within the folder: wherever that lies, its random numbers are the same.
    """

    id: str
    path: Path
    label: Label


def labeled_files(folder: Name, labels: Name | None, note: Note) -> list[LabeledFile]:
    """The pictures of the folder, sorted; InvalidRequest says which has no label.

    Labels come from a file, or from the name of the folder that each picture lies in. What is no
    error, but is hardly meant, goes to `note`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder {shown(folder)}.")
    paths = {_normal(path): path for path in found([str(folder)])}
    if labels is None:
        known = {key: _of_folder(path, folder) for key, path in paths.items()}
    else:
        known = _read(Path(labels), folder)
        _check_all(Path(labels), known, paths, note)
    return [LabeledFile(_id(path, folder), path, known[key]) for key, path in paths.items()]


def check_classes(network: Network, files: Sequence[LabeledFile]) -> None:
    """Raises InvalidRequest for the first label that the network does not have."""
    labels = set(network.labels)
    for file in files:
        target = file.label.target
        if target.WhichOneof("target") == "label":
            there = target.label in labels
        else:
            there = target.class_index < len(network.labels)
        if not there:
            raise InvalidRequest(
                f"{file.label.where}: {network.name} has no class {printable(file.label.name)!r}; "
                f"{_nearest(file.label.name, network.labels)}."
            )


def _nearest(name: str, labels: Sequence[str]) -> str:
    if len(labels) <= MOST_LISTED:
        return f"it has {', '.join(map(printable, labels))}"
    near = get_close_matches(name, labels, 3, 0.6)
    advice = f", {' or '.join(map(printable, near))} among them" if near else ""
    return f"it has {len(labels)} classes, 0 to {len(labels) - 1}{advice}"


def _of_folder(path: Path, folder: Path) -> Label:
    if path.parent == folder:
        raise InvalidRequest(
            f"{shown(path)} lies in no folder that names its class; give --labels FILE, or put it "
            f"into {shown(folder)}/CLASS."
        )
    return Label(_target(path.parent.name, shown(path)), f"the folder {shown(path.parent)}")


def _read(file: Path, folder: Path) -> dict[Path, Label]:
    """The labels that a file has, by the pictures' paths; InvalidRequest says what is wrong."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{shown(file)} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{shown(file)} is no text in UTF-8.") from error
    entries = _of_json(file, text) if file.suffix.lower() == ".json" else _of_csv(file, text)
    known: dict[Path, Label] = {}
    for where, name, label in entries:
        key = _normal(folder / name)
        new = Label(_target(label, where), where)
        if known.setdefault(key, new).target != new.target:
            words = f"{printable(name)} is {known[key].name!r} in {known[key].where} already"
            raise InvalidRequest(f"{where}: {words}.")
    return known


def _of_csv(file: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Where it stands, the picture's name, and the label, line by line."""
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, list[str]())]
        if not set(COLUMNS) <= set(header):
            written = ",".join(header)
            raise InvalidRequest(
                f"{shown(file)}, line 1: the header is {printable(written)!r}; it must have the "
                "columns file and label."
            )
        for row in rows:
            where = f"{shown(file)}, line {rows.line_num}"
            values = dict(zip(header, (value.strip() for value in row), strict=False))
            if not any(values.values()):
                continue
            for column in COLUMNS:
                if not values.get(column):
                    raise InvalidRequest(f"{where}: there is no {column}.")
            yield where, values["file"], values["label"]
    except csv.Error as error:
        where = f"{shown(file)}, line {rows.line_num}"
        raise InvalidRequest(f"{where}: this is no CSV: {error}.") from error


def _of_json(file: Path, text: str) -> Iterator[tuple[str, str, str]]:
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{shown(file)} is no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise InvalidRequest(f"{shown(file)} must be an object: file names with labels.")
    for name, label in cast(Mapping[str, Any], document).items():
        where = f"{shown(file)}, {printable(name)!r}"
        if type(label) not in (str, int) or label == "":
            raise InvalidRequest(f"{where}: the label must be a text or a whole number.")
        yield where, name, str(label)


def _target(label: str, where: str) -> target_pb2.Target:
    try:
        target = target_of(label)
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from error
    if target.HasField("rank"):
        raise InvalidRequest(f"{where}: a true class is a label or an index, not {label!r}.")
    return target


def _check_all(
    labels: Path, known: Mapping[Path, Label], paths: Mapping[Path, Path], note: Note
) -> None:
    """Raises InvalidRequest where a picture has no label, and notes labels without pictures."""
    missing = [path for key, path in paths.items() if key not in known]
    if missing:
        others = f", and {_others(missing)} have none either" if len(missing) > 1 else ""
        raise InvalidRequest(
            f"{shown(missing[0])} has no label in {shown(labels)}{others}; each picture needs one."
        )
    unused = [path for path in known if path not in paths]
    if unused:
        others = f" and {_others(unused)}" if len(unused) > 1 else ""
        note(
            f"{shown(labels)} has labels for {shown(unused[0])}{others}, which are not among the "
            "pictures."
        )


def _others(paths: Sequence[Path]) -> str:
    return f"{len(paths) - 1} other{'s' if len(paths) > 2 else ''}"


def _normal(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _id(path: Path, folder: Path) -> str:
    """The path within the folder; of one too long, or that is no text, a digest and its end."""
    name = path.relative_to(folder).as_posix()
    text = readable(name)
    if text == name and len(text) <= LONGEST_ID:
        return text
    mark = digest(os.fsencode(name))[:16]
    return f"{mark}…{text[-(LONGEST_ID - len(mark) - 1) :]}"
