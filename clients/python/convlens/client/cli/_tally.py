"""What is told on stderr of answers that failed, or need a word, and how many failed."""

from collections.abc import Container, Iterator

import click

from convlens.client import (
    Attribution,
    ConvLensError,
    IntegratedGradientsDetails,
    OcclusionDetails,
)
from convlens.client._text import printable
from convlens.client.cli._calls import Outcome
from convlens.client.cli._rows import percent
from convlens.contract import ErrorReason
from convlens.contract.errors import reason_name

UNFIT = reason_name(ErrorReason.ERROR_REASON_MEASURE_NOT_APPLICABLE)
# An approximate map is told of where it may be off by more than that share of its largest value.
FAR_OFF = 0.5
# Of methods and of their layers.
NOT_APPLICABLE = frozenset(
    map(
        reason_name,
        (
            ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE,
            ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE,
        ),
    )
)


class Tally:
    """Tells of answers, and counts them.

    Without `notes`, what is no failure is left to somebody else to tell.
    """

    def __init__(self, *, notes: bool = True) -> None:
        self.failed = self.answers = 0
        self._notes = notes
        self._noted: set[str] = set()

    def _note(self, text: str) -> None:
        """What is no failure, said once."""
        if self._notes and text not in self._noted:
            self._noted.add(text)
            click.echo(f"convlens: note: {printable(text)}", err=True)

    def _fail(self, name: str, text: str) -> None:
        self.failed += 1
        click.echo(f"convlens: {printable(name)}: {printable(text)}", err=True)


class AnswerTally(Tally):
    """Tells of the answers of explanations, picture by picture.

    Of `optional` methods, named by their place, it is no failure where they do not apply.
    """

    def __init__(self, optional: Container[int] = (), *, notes: bool = True) -> None:
        super().__init__(notes=notes)
        self._optional = optional

    def add(self, outcome: Outcome) -> None:
        """All answers of one picture."""
        name = str(outcome.picture.path)
        self.answers += max(1, len(outcome.answers))
        if outcome.error is not None:
            self._fail(name, outcome.error.message)
        for answer in outcome.answers:
            self._tell(name, answer.attribution)

    def _tell(self, name: str, found: Attribution) -> None:
        """What went wrong with an answer, and what its reader must know."""
        if found.error is not None and not self._may_lack(found.method_index, found.error):
            self._fail(name, f"{found.method}: {found.error.message}")
        for score in found.scores:
            if score.error is not None and score.error.reason == UNFIT:
                # Of several methods, not every one can be judged by every measure.
                self._note(score.error.message)
            elif score.error is not None:
                self._fail(name, f"{found.method}, {score.measure}: {score.error.message}")
        for note in notes_of(found):
            self._note(f"{found.method}: {note}.")

    def _may_lack(self, method: int, error: ConvLensError) -> bool:
        return method in self._optional and error.reason in NOT_APPLICABLE


def notes_of(found: Attribution) -> list[str]:
    """What a reader of an answer must know."""
    return [*_unfinished(found), *found.notes]


def _unfinished(found: Attribution) -> Iterator[str]:
    details, error = found.details, found.error_estimate
    missed = error.relative if error else None
    if found.is_partial:
        yield f"the time was over after {found.samples} samples"
    elif isinstance(details, IntegratedGradientsDetails) and not details.converged:
        off = "" if missed is None else f", and the sum is off by {percent(missed)}"
        yield f"it has not converged after {found.samples} steps{off}; allow more with max-steps"
    elif isinstance(details, OcclusionDetails) and missed is not None and missed > FAR_OFF:
        off = f"by {percent(missed)} of its largest value"
        yield f"the map may be off {off}; raise projective-threshold, 1 is exact"


def end(ctx: click.Context, tally: Tally) -> None:
    """Ends the command with 1 where answers failed, saying how many."""
    if tally.failed:
        click.echo(f"convlens: {tally.failed} of {tally.answers} answers failed.", err=True)
        ctx.exit(1)
