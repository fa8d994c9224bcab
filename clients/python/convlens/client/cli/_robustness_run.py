"""Evaluates one network after the other, and goes on where a stream breaks."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, cast

from convlens.client import (
    Client,
    InvalidRequest,
    LabeledImage,
    Overloaded,
    RobustnessDone,
    RobustnessEvent,
    RobustnessItem,
    RobustnessPoint,
    RobustnessProgress,
    Unavailable,
)
from convlens.client._labels import LabeledFile
from convlens.client._outcomes import end_if_of_all, error_json
from convlens.client._transport import Patience
from convlens.client.cli._robustness_state import Progress, State
from convlens.client.cli._tally import Tally
from convlens.contract.rules import title_of
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1.attack_methods_pb2 import AttackMethod

# How long a server that went away may take to come back, in seconds and attempts.
PATIENCE, ATTEMPTS = 180.0, 11

Show: TypeAlias = Callable[[int, Sequence[RobustnessPoint]], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One network's curve, and what must be known to read it.

    `plan` has every default. `flags` counts the images on which an attack, named by its place,
    raised each flag, and `failures` those without an answer, by reason.
    """

    network: str
    plan: pb.RobustnessPlan
    done: RobustnessDone
    items: Sequence[Mapping[str, Any]]
    flags: Mapping[tuple[int, str], int]
    failures: Mapping[str, int]
    images: int
    seconds: float

    @property
    def attacks(self) -> list[str]:
        """The titles of the attacks; of several with one title, numbered."""
        titles = [title_of(_method(attack)) for attack in self.plan.attacks]
        return [
            title if title not in titles[:n] else f"{title} {titles[:n].count(title) + 1}"
            for n, title in enumerate(titles)
        ]


class ItemTally(Tally):
    """Tells of images that have no answer, and of what a run had to wait for."""

    def add(self, item: Mapping[str, Any], *, told: bool = False) -> None:
        """One more image; of what was `told` in an earlier run it says so."""
        self.answers += 1
        if "error" in item:
            again = " So it was in an earlier run; without its --checkpoint it is tried again."
            self._fail(item["id"], item["error"]["message"] + (again if told else ""))

    def note(self, text: str) -> None:
        """What is no failure, said once."""
        self._note(text)


@dataclass(slots=True)
class Run:
    """What evaluations have in common; `options` are those of `evaluate_robustness`."""

    client: Client
    files: Sequence[LabeledFile]
    attacks: Sequence[Any]
    options: Mapping[str, Any]
    state: State
    timeout: float | None
    show: Show
    tally: ItemTally = field(default_factory=ItemTally)

    def evaluated(self, network: str, plan: pb.RobustnessPlan) -> Evaluation:
        """One network's curve; what is done is kept, whatever ends this."""
        progress = self.state.of(network, plan, self.files)
        for item in progress.items:
            self.tally.add(item, told=True)
        started, before = time.monotonic(), progress.seconds
        try:
            done = self._followed(network, progress, started)
        except BaseException:
            self.state.tell_unfinished(len(progress.items), len(self.files))
            raise
        finally:
            progress.seconds = before + time.monotonic() - started
            self.state.save(now=True)
        return Evaluation(
            f"{done.receipt.network}@{done.receipt.network_version}",
            plan,
            done,
            progress.items,
            _flags(progress.items),
            _failures(progress.items),
            len(self.files),
            progress.seconds,
        )

    def _followed(self, network: str, progress: Progress, started: float) -> RobustnessDone:
        """Asks until all is done; where the server goes away, waits for it and goes on."""
        known, patience = len(progress.items), Patience(PATIENCE, ATTEMPTS)
        while True:
            try:
                *_, done = self._events(network, progress, started)
                assert isinstance(done, RobustnessDone)
                return done
            except (Overloaded, Unavailable) as error:
                if len(progress.items) > known:
                    known, patience = len(progress.items), Patience(PATIENCE, ATTEMPTS)
                pause = patience.pause(error)
                self.tally.note(f"{error.message} Trying again.")
                time.sleep(pause)

    def _events(
        self, network: str, progress: Progress, started: float
    ) -> Iterator[RobustnessEvent]:
        """One call for the images that are not done; gives what is not of a single image."""
        labels = {file.id: file.label.name for file in self.files}
        events = self.client.evaluate_robustness(
            self._left(progress),
            self.attacks,
            network=network,
            checkpoint=progress.checkpoint,
            timeout=self._remaining(started),
            **self.options,
        )
        with closing(events):
            for event in events:
                progress.checkpoint = event.checkpoint
                if isinstance(event, RobustnessItem):
                    item = _item_json(event, labels[event.id])
                    progress.items.append(item)
                    self.tally.add(item)
                    self.state.save()
                points = event.points if isinstance(event, RobustnessProgress) else ()
                self.show(len(progress.items), points)
                if not isinstance(event, RobustnessItem):
                    yield event

    def _left(self, progress: Progress) -> Iterator[LabeledImage]:
        """The images without an item, read when they are sent."""
        done = {item["id"] for item in progress.items}
        for file in self.files:
            if file.id not in done:
                yield LabeledImage(file.id, file.path, file.label.target)

    def _remaining(self, started: float) -> float | None:
        if self.timeout is None:
            return None
        # What is over by now is over at the server too, which says it better.
        return max(0.001, started + self.timeout - time.monotonic())


def _item_json(item: RobustnessItem, label: str) -> dict[str, Any]:
    """An item as the command's JSON has it; raises an error that all images would have."""
    if item.robustness is None:
        error = item.error
        assert error is not None
        # A request that does not fit one image may fit others.
        if not isinstance(error, InvalidRequest):
            end_if_of_all(error)
        return {"id": item.id, "label": label, "error": error_json(error)}
    return {"id": item.id, "label": label, **asdict(item.robustness)}


def _failures(items: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many images have no answer, by reason."""
    errors = (item["error"] for item in items if "error" in item)
    return Counter(error["reason"] or error["code"] for error in errors)


def _flags(items: Sequence[Mapping[str, Any]]) -> Counter[tuple[int, str]]:
    """On how many images each attack raised each flag."""
    return Counter(
        (number, flag)
        for item in items
        for number, budget in enumerate(item.get("budgets", ()))
        for flag in set(budget["flags"])
    )


def _method(attack: AttackMethod) -> Any:
    return getattr(attack, cast(str, attack.WhichOneof("method")))
