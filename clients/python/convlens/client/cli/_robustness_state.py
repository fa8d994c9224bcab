"""The file of --checkpoint: how far each evaluation of a run has come."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click

from convlens.client._labels import LabeledFile
from convlens.client._text import json_text, printable, shown
from convlens.client.cli._files import write_whole
from convlens.contract import digest
from convlens.v1 import adversarial_pb2 as pb

FORMAT = "convlens robustness checkpoint, 1"
# Seconds between two versions of the file, and their multiple of the time that writing it takes.
PAUSE, SHARE = 1.0, 20.0
# What does not make a plan another one.
IN_PASSING = ("checkpoint", "allow_partial", "estimate_only", "confidence_level")


@dataclass(slots=True)
class Progress:
    """How far the evaluation of one network has come: the items so far, as JSON has them."""

    plan: str
    checkpoint: bytes = b""
    items: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0


class State:
    """What is done of each network, by its name; kept in a file, where one was named."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._networks: dict[str, Progress] = {}
        self._next = 0.0
        if file is not None and file.exists():
            self._networks = _read(file)

    def of(self, network: str, plan: pb.RobustnessPlan, files: Sequence[LabeledFile]) -> Progress:
        """What is done for a network; ClickException where that was another evaluation."""
        own = _digest(plan)
        found = self._networks.setdefault(network, Progress(own))
        if found.plan != own:
            raise self._other(f"of {printable(network)} with other options")
        labels = {file.id: file.label.name for file in files}
        for item in found.items:
            if labels.get(item["id"]) != item["label"]:
                raise self._other(f"with {printable(item['id'])} as {printable(item['label'])!r}")
        return found

    def save(self, *, now: bool = False) -> None:
        """Writes the file, unless that was done a moment ago."""
        started = time.monotonic()
        if self._file is None or (started < self._next and not now):
            return
        networks = {
            name: {
                "plan": each.plan,
                "checkpoint": base64.b64encode(each.checkpoint).decode("ascii"),
                "items": each.items,
                "seconds": each.seconds,
            }
            for name, each in self._networks.items()
        }
        write_whole(self._file, json_text({"format": FORMAT, "networks": networks}))
        ended = time.monotonic()
        self._next = ended + max(PAUSE, SHARE * (ended - started))

    def tell_unfinished(self, done: int, images: int) -> None:
        """Says how an evaluation can be gone on with, where anything of it is kept."""
        if self._file is not None and done:
            click.echo(
                f"convlens: note: {shown(self._file)} has {done} of {images} images; the same "
                "command goes on from there.",
                err=True,
            )

    def _other(self, what: str) -> click.ClickException:
        return click.ClickException(
            f"{shown(cast(Path, self._file))} is of a run {what}; give --checkpoint another name, "
            "or remove the file to begin anew."
        )


def _read(file: Path) -> dict[str, Progress]:
    try:
        document: Any = json.loads(file.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError("another format")
        return {name: _progress(each) for name, each in document["networks"].items()}
    except OSError as error:
        raise click.ClickException(f"{shown(file)} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise click.ClickException(
            f"{shown(file)} is no checkpoint of convlens robustness, or is damaged; give "
            "--checkpoint another name, or remove the file to begin anew."
        ) from error


def _progress(found: Mapping[str, Any]) -> Progress:
    checkpoint = base64.b64decode(found["checkpoint"], validate=True)
    items = [dict(item, id=str(item["id"]), label=str(item["label"])) for item in found["items"]]
    return Progress(str(found["plan"]), checkpoint, items, float(found["seconds"]))


def _digest(plan: pb.RobustnessPlan) -> str:
    copy = pb.RobustnessPlan()
    copy.CopyFrom(plan)
    for name in IN_PASSING:
        copy.ClearField(name)
    return digest(copy.SerializeToString(deterministic=True))
