"""What `convlens attack` writes and prints of its verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convlens.client import AttackVerdict
from convlens.client.cli._attack_calls import AttackOutcome
from convlens.client.cli._bits import digests_of_picture
from convlens.client.cli._folder import Folder
from convlens.client.cli._output import Output
from convlens.client.cli._receipts import ATTACK_FORMAT, picture_json
from convlens.client.cli._rows import fitted
from convlens.client.cli._tables import Column, Table, width_of
from convlens.client.cli._tally import Tally
from convlens.contract.comments import comment_of

NAME_WIDTH, LABEL_WIDTH = 24, 10
# Statuses and rounded statuses as the table has them, where these are not the contract's words.
STATUS_WORDS = {"already_misclassified": "wrong before", "steps_exhausted": "out of steps"}
ROUNDED_WORDS = {"succeeded": "yes", "failed": "no"}
UNSUCCESSFUL = frozenset({"failed", "steps_exhausted", "deadline"})


class AttackFolder(Folder):
    """The folder of `convlens attack`: adversarial pictures, sheets that show them, pixels."""

    def __init__(self, path: Path, method: str, *, pixels: bool, overwrite: bool) -> None:
        super().__init__(path, ATTACK_FORMAT, overwrite=overwrite)
        self._method = method
        self._pixels = pixels

    def save(self, outcome: AttackOutcome) -> dict[str, str]:
        """Writes what there is of a verdict; the names of the files by kind."""
        verdict = outcome.verdict
        if verdict is None:
            return {}
        stem = self.free(f"{outcome.picture.path.stem}-{self._method}")
        files: dict[str, str] = {}
        if verdict.png:
            files = {"png": f"{stem}.png", "shown": f"{stem}-shown.png"}
            self.write(files["png"], lambda path: path.write_bytes(verdict.png))
            self.write(files["shown"], verdict.save)
        if self._pixels or not verdict.png:
            files["npy"] = f"{stem}.npy"
            self.write(files["npy"], verdict.save)
        return files


class VerdictTally(Tally):
    """Tells of attacks, picture by picture."""

    def add(self, outcome: AttackOutcome) -> None:
        """What became of one picture."""
        self.answers += 1
        if outcome.error is not None:
            self._fail(str(outcome.picture.path), outcome.error.message)
        if outcome.verdict is not None:
            for flag in outcome.verdict.flags:
                self._note(about_flag(flag))
            if outcome.verdict.status in UNSUCCESSFUL:
                self._note("an attack that fails does not show that there is nothing to find.")


def about_flag(flag: str) -> str:
    """What the contract says of a flag."""
    return comment_of(f"AttackFlag.ATTACK_FLAG_{flag.upper()}") or flag


class VerdictTable:
    """The table of a run: one line for each picture."""

    def __init__(self, paths: Sequence[Path], *, files: bool) -> None:
        self._with_picture, self._with_files = len(paths) > 1 and not files, files
        names = [str(path) for path in paths]
        picture = Column("picture", width_of("picture", names, NAME_WIDTH), keep_start=False)
        self._table = Table(
            [
                *([picture] if self._with_picture else []),
                Column("status", len("wrong before")),
                Column("class", 2 * LABEL_WIDTH + len(" -> ")),
                Column("as png", len("as png")),
                Column("L2", 7, is_number=True),
                Column("Linf", 7, is_number=True),
                Column("steps", 5, is_number=True),
                Column("seconds", 7, is_number=True),
                *([Column("file")] if files else []),
            ]
        )

    def add(self, outcome: AttackOutcome, files: Mapping[str, str]) -> None:
        """The line of one picture."""
        if outcome.verdict is None:
            return
        first = [str(outcome.picture.path)] if self._with_picture else []
        last = [files.get("png") or files.get("npy", "")] if self._with_files else []
        self._table.row(*first, *_cells(outcome.verdict, outcome.seconds), *last)


class AttackOutput(Output[AttackOutcome]):
    """What `convlens attack` writes and prints; `table` is None for a document at the end.

    `method` is the title of the attack.
    """

    def __init__(
        self, method: str, folder: AttackFolder | None, table: VerdictTable | None
    ) -> None:
        super().__init__(folder, prints=table is not None)
        self._method = method
        self.tally = VerdictTally()
        self._pictures_folder = folder
        self._table = table

    def _outcome(self, outcome: AttackOutcome) -> dict[str, Any]:
        self.tally.add(outcome)
        files = self._pictures_folder.save(outcome) if self._pictures_folder else {}
        if self._table is not None:
            self._table.add(outcome, files)
        found = None
        if outcome.verdict is not None:
            seconds = {"seconds": round(outcome.seconds, 3)}
            found = {"method": self._method, **verdict_json(outcome.verdict, files), **seconds}
        return picture_json(outcome.picture, outcome.error, verdict=found)


def verdict_json(verdict: AttackVerdict, files: Mapping[str, str]) -> dict[str, Any]:
    """A verdict as JSON, with the digests of its pictures and the names of its files."""
    return {
        "status": verdict.status,
        "rounded_status": verdict.rounded_status,
        "original_class_index": verdict.original_class_index,
        "target_class_index": verdict.target_class_index,
        "before": [asdict(score) for score in verdict.before],
        "after": [asdict(score) for score in verdict.after],
        "after_rounding": [asdict(score) for score in verdict.after_rounding],
        "distance": asdict(verdict.distance),
        "rounded_distance": asdict(verdict.rounded_distance),
        "steps": verdict.steps,
        "cost": asdict(verdict.cost),
        "succeeded_by": verdict.succeeded_by,
        "flags": list(verdict.flags),
        "arrays": digests_of_picture(verdict),
        "files": dict(files),
    }


def _cells(verdict: AttackVerdict, seconds: float) -> Iterator[str]:
    yield STATUS_WORDS.get(verdict.status, verdict.status)
    before, after = (
        fitted(scores[0].label, LABEL_WIDTH) if scores else "–"
        for scores in (verdict.before, verdict.after)
    )
    yield f"{before} -> {after}"
    # What was wrong before is no success in 8 bits either.
    was_wrong = verdict.status == "already_misclassified"
    yield "–" if was_wrong else ROUNDED_WORDS.get(verdict.rounded_status, "–")
    yield f"{verdict.distance.l2:#.3g}"
    yield f"{verdict.distance.linf:#.3g}"
    yield f"{verdict.steps}"
    yield f"{seconds:.1f}"
