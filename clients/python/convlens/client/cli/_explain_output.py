"""What `convlens explain` writes and prints of its answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from convlens.client import Attribution, ClassScore
from convlens.client._operations.asking import choices_of
from convlens.client.cli._calls import Answer, Outcome
from convlens.client.cli._folder import MapFolder
from convlens.client.cli._output import Output
from convlens.client.cli._receipts import answer_json, picture_json
from convlens.client.cli._rows import fitted, percent
from convlens.client.cli._specs import short
from convlens.client.cli._tables import Column, Table, width_of
from convlens.client.cli._tally import AnswerTally
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
        yield "–" if target is None or target.logit is None else f"{target.logit:.2f}"
        for score in found.scores:
            yield "–" if score.score is None else f"{score.score:.3f}"
        if self._with_box:
            yield ",".join(f"{edge:.0f}" for edge in found.region.box) if found.region else "–"
        yield f"{found.samples}"
        yield f"{seconds:.1f}"


class AnswerOutput(Output[Outcome]):
    """What `convlens explain` writes and prints; `table` is None for a document at the end."""

    def __init__(self, folder: MapFolder | None, table: AnswerTable | None) -> None:
        super().__init__(folder, prints=table is not None)
        self.tally = AnswerTally()
        self._maps = folder
        self._table = table

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        """The document of one picture; its rows are printed."""
        name = str(outcome.picture.path)
        self.tally.add(outcome)
        answers: list[dict[str, Any]] = []
        for answer in outcome.answers:
            files = self._maps.save(outcome.picture, answer) if self._maps else {}
            answers.append(answer_json(answer, files))
            if self._table is not None and answer.attribution.error is None:
                self._table.add(name, answer, files)
        return picture_json(outcome.picture, outcome.error, answers=answers)


def _class(score: ClassScore) -> str:
    return f"{fitted(score.label, LABEL_WIDTH)} {percent(score.probability):>7}"
