"""What commands that go through pictures write and print, and what they say before and after."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

import click

from convlens.client import AttackDone, Cost, ExplainDone
from convlens.client._text import json_text, printable, shown
from convlens.client.cli._calls import Picture, batches
from convlens.client.cli._folder import Folder


class OfPicture(Protocol):
    """What became of a picture."""

    @property
    def picture(self) -> Picture:
        """The picture."""
        ...


T = TypeVar("T", bound=OfPicture)


class Output(ABC, Generic[T]):
    """Writes and prints what became of pictures, call by call.

    Where it does not print rows, it prints a document at the end.
    """

    def __init__(self, folder: Folder | None, *, prints: bool) -> None:
        self._folder = folder
        self._prints = prints
        self._pictures: list[dict[str, Any]] = []
        self._network = ""
        self._spent = self._most = Cost(0, 0)
        self._started = time.monotonic()

    @abstractmethod
    def _outcome(self, outcome: T) -> dict[str, Any]:
        """The document of one picture; its rows are printed."""

    def add(self, outcomes: Sequence[T], done: ExplainDone | AttackDone | None) -> None:
        """What came of one call; `done` is None where there was no picture to send."""
        documents = [self._outcome(outcome) for outcome in outcomes]
        self._pictures += documents
        if done is None:
            return
        receipt = done.receipt
        self._network = f"{receipt.network}@{receipt.network_version}"
        self._spent = total(self._spent, receipt.cost)
        self._most = total(self._most, done.estimated_cost)
        if self._folder is not None:
            pairs = zip(outcomes, documents, strict=True)
            sent = [document for outcome, document in pairs if outcome.picture.error is None]
            self._folder.add_call({"receipt": receipt.to_dict(), "pictures": sent})

    def end(self) -> None:
        """What there is to say when all is done."""
        seconds = time.monotonic() - self._started
        receipt = self._folder.receipt if self._folder else None
        if not self._prints:
            document = {
                "network": self._network,
                "pictures": self._pictures,
                "cost": asdict(self._spent),
                "estimated_cost": asdict(self._most),
                "receipt": str(receipt) if receipt else None,
                "seconds": round(seconds, 3),
            }
            click.echo(json_text(document))
        elif self._network:
            spent, most = self._spent, self._most
            click.echo(
                f"{printable(self._network)}: {spent.forward_passes} of {most.forward_passes} "
                f"forward and {spent.backward_passes} of {most.backward_passes} backward passes, "
                f"{seconds:.1f} s" + (f"; receipt: {shown(receipt)}" if receipt else "")
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all calls would cost, and how many of the pictures cannot be read."""

    cost: Cost
    pictures: int
    failed: int


def estimated(pictures: Iterator[Picture], ask: Callable[[list[Picture]], Cost]) -> Estimate:
    """What all calls would cost; tells of pictures that cannot be read."""
    cost, asked, failed = Cost(0, 0), 0, 0
    for batch in batches(pictures):
        sent = [picture for picture in batch if picture.error is None]
        cost = total(cost, ask(sent)) if sent else cost
        for picture in batch:
            if picture.error is not None:
                click.echo(
                    f"convlens: {shown(picture.path)}: {printable(picture.error.message)}", err=True
                )
        asked, failed = asked + len(batch), failed + len(batch) - len(sent)
    return Estimate(cost, asked, failed)


def print_estimate(found: Estimate, *, as_json: bool) -> None:
    """Says what a run would cost; ends the command with 1 where pictures cannot be read."""
    if as_json:
        click.echo(json_text({"estimated_cost": asdict(found.cost)}))
    elif found.failed < found.pictures:
        cost = found.cost
        click.echo(
            f"at most {cost.forward_passes} forward and {cost.backward_passes} backward passes"
        )
    if found.failed:
        click.echo(f"convlens: {found.failed} of {found.pictures} pictures failed.", err=True)
        raise click.exceptions.Exit(1)


def total(one: Cost, other: Cost) -> Cost:
    """What both asked of the network together."""
    return Cost(
        one.forward_passes + other.forward_passes, one.backward_passes + other.backward_passes
    )
