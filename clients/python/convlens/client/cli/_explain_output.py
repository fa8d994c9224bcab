"""What `convlens explain` writes and prints of its answers."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from convlens.client import Attribution, ClassScore, Cost
from convlens.client._operations.asking import choices_of
from convlens.client.cli._calls import Answer, Call, Outcome
from convlens.client.cli._folder import Folder
from convlens.client.cli._receipts import answer_json, picture_json
from convlens.client.cli._rows import fitted, percent, printable, shown
from convlens.client.cli._specs import short
from convlens.client.cli._tables import Column, Table, width_of
from convlens.client.cli._tally import Tally
from convlens.client.methods import QualityMeasure
from convlens.contract.rules import kind_of, title_of

NAME_WIDTH, LABEL_WIDTH = 24, 12


class AnswerTable:
    """The table of a run: one line for each answer.

    The names of `files`, where there are any, begin with the names of pictures.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        asked: Sequence[Message],
        options: Mapping[str, Any],
        *,
        files: bool,
    ) -> None:
        names, titles = [str(path) for path in paths], [title_of(each) for each in asked]
        self._with_picture, self._with_files = len(paths) > 1 and not files, files
        self._with_box = options["localization"] is not None
        known = choices_of(QualityMeasure)
        measures = [short(known[kind_of(each).name]) for each in options["measures"]]
        picture = Column("picture", width_of("picture", names, NAME_WIDTH), keep_start=False)
        self._table = Table(
            [
                *([picture] if self._with_picture else []),
                Column("method", width_of("method", titles, NAME_WIDTH)),
                Column("class", LABEL_WIDTH + len(" 100.0 %")),
                Column("score", 7, is_number=True),
                *(Column(name, 5, is_number=True) for name in measures),
                *([Column("box", len("0000,0000,0000,0000"))] if self._with_box else []),
                Column("samples", 7, is_number=True),
                Column("seconds", 7, is_number=True),
                *([Column("file")] if files else []),
            ]
        )

    def add(self, picture: str, answer: Answer, files: Mapping[str, str]) -> None:
        """The line of one answer."""
        cells = self._cells(answer.attribution, answer.seconds)
        first = [picture] if self._with_picture else []
        last = [files.get("png", "")] if self._with_files else []
        self._table.row(*first, *cells, *last)

    def _cells(self, found: Attribution, seconds: float) -> Iterator[str]:
        target = found.target
        yield found.method
        yield _class(target) if target else "–"
        yield f"{target.logit:.2f}" if target else "–"
        for score in found.scores:
            yield "–" if score.score is None else f"{score.score:.3f}"
        if self._with_box:
            yield ",".join(f"{edge:.0f}" for edge in found.region.box) if found.region else "–"
        yield f"{found.samples}"
        yield f"{seconds:.1f}"


class Output:
    """Writes and prints answers call by call; its tally counts what failed.

    `table` is where rows go; None for a document at the end.
    """

    def __init__(self, folder: Folder | None, table: AnswerTable | None) -> None:
        self.tally = Tally()
        self._folder = folder
        self._table = table
        self._pictures: list[dict[str, Any]] = []
        self._network = ""
        self._spent = self._most = Cost(0, 0)
        self._started = time.monotonic()

    def add(self, call: Call) -> None:
        """The answers of one call."""
        documents = [self._outcome(outcome) for outcome in call.outcomes]
        self._pictures += documents
        if call.done is None:
            return
        receipt = call.done.receipt
        self._network = f"{receipt.network}@{receipt.network_version}"
        self._spent = total(self._spent, receipt.cost)
        self._most = total(self._most, call.done.estimated_cost)
        if self._folder is not None:
            pairs = zip(call.outcomes, documents, strict=True)
            sent = [document for outcome, document in pairs if outcome.picture.error is None]
            self._folder.add_call({"receipt": receipt.to_dict(), "pictures": sent})

    def end(self) -> None:
        """What there is to say when all is done."""
        seconds = time.monotonic() - self._started
        receipt = self._folder.receipt if self._folder else None
        if self._table is None:
            document = {
                "network": self._network,
                "pictures": self._pictures,
                "cost": asdict(self._spent),
                "estimated_cost": asdict(self._most),
                "receipt": str(receipt) if receipt else None,
                "seconds": round(seconds, 3),
            }
            click.echo(json.dumps(document))
        elif self._network:
            spent, most = self._spent, self._most
            click.echo(
                f"{printable(self._network)}: {spent.forward_passes} of {most.forward_passes} "
                f"forward and {spent.backward_passes} of {most.backward_passes} backward passes, "
                f"{seconds:.1f} s" + (f"; receipt: {shown(receipt)}" if receipt else "")
            )

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        """The document of one picture; its rows are printed."""
        name = str(outcome.picture.path)
        self.tally.add(outcome)
        answers: list[dict[str, Any]] = []
        for answer in outcome.answers:
            files = self._folder.save(outcome.picture, answer) if self._folder else {}
            answers.append(answer_json(answer, files))
            if self._table is not None and answer.attribution.error is None:
                self._table.add(name, answer, files)
        return picture_json(outcome, answers)


def _class(score: ClassScore) -> str:
    return f"{fitted(score.label, LABEL_WIDTH)} {percent(score.probability):>7}"


def total(one: Cost, other: Cost) -> Cost:
    """What both asked of the network together."""
    return Cost(
        one.forward_passes + other.forward_passes, one.backward_passes + other.backward_passes
    )
