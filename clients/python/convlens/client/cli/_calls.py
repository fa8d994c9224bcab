"""Asks about pictures call by call, and explains them, through ExplainStream."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from convlens.client import (
    AttackProgress,
    Attribution,
    Client,
    ConvLensError,
    ExplainDone,
    ExplainProgress,
    SynthesisProgress,
)
from convlens.client._images import read_file
from convlens.client._outcomes import end_if_of_all
from convlens.client.cli._patch_scales import at_one_scale
from convlens.client.cli._progress import progress
from convlens.contract import digest

# Pictures and bytes of one call; their answers are in memory together.
MOST_PICTURES, MOST_BYTES = 16, 16 * 2**20

T = TypeVar("T")
Progress: TypeAlias = ExplainProgress | AttackProgress | SynthesisProgress
Show: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is sent; one that cannot be read has an error in place of `data`.

    `truth` is what is known of it: where its object is, or its class.
    """

    path: Path
    truth: Any = None
    data: bytes = field(repr=False, default=b"")
    error: ConvLensError | None = None

    @classmethod
    def read(cls, path: Path, truth: Any = None) -> "Picture":
        """The picture of a file."""
        try:
            return cls(path, truth, read_file(path))
        except ConvLensError as error:
            return cls(path, truth, error=error)

    @property
    def digest(self) -> str:
        """BLAKE2b-256 of its bytes, in hexadecimal."""
        return digest(self.data)


@dataclass(frozen=True, slots=True)
class Answer:
    """One method's answer for one target, and the seconds after which it was there."""

    attribution: Attribution
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture: its answers method by method, or its error."""

    picture: Picture
    answers: Sequence[Answer]
    error: ConvLensError | None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is over; `done` is None where there was no picture to send."""

    outcomes: Sequence[Outcome]
    done: ExplainDone | None


def batches(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    """The pictures, as many together as one call takes."""
    batch: list[Picture] = []
    size = 0
    for picture in pictures:
        size += len(picture.data)
        if batch and (len(batch) == MOST_PICTURES or size > MOST_BYTES):
            yield batch
            batch, size = [], len(picture.data)
        batch.append(picture)
    if batch:
        yield batch


@contextmanager
def shown_progress(what: str) -> Generator[Show, None, None]:
    """Shows how far a call is, in passes through the network, or in steps of a synthesis."""
    with progress(what) as bar:
        task = bar.add_task("", total=None)

        def show(event: Progress) -> None:
            if isinstance(event, SynthesisProgress):
                bar.update(task, completed=event.step, total=event.steps)
                return
            spent, most = event.cost, event.estimated_cost
            bar.update(
                task,
                completed=spent.forward_passes + spent.backward_passes,
                total=most.forward_passes + most.backward_passes,
            )

        yield show


def explained(
    client: Client,
    pictures: Sequence[Picture],
    methods: Sequence[Any],
    options: Mapping[str, Any],
    show: Show,
) -> Call:
    """One call for all pictures that can be read; `options` are those of explain_stream."""
    sent = [picture for picture in pictures if picture.error is None]
    received, done = _received(client, sent, methods, options, show) if sent else ([], None)
    return Call(merged(pictures, received, lambda p: Outcome(p, [], p.error)), done)


def merged(
    pictures: Sequence[Picture], received: Iterable[T], unread: Callable[[Picture], T]
) -> list[T]:
    """An outcome for each picture: those received, and what is made of one that cannot be read."""
    following = iter(received)
    return [next(following) if picture.error is None else unread(picture) for picture in pictures]


def _received(
    client: Client,
    sent: Sequence[Picture],
    methods: Sequence[Any],
    options: Mapping[str, Any],
    show: Show,
) -> tuple[list[Outcome], ExplainDone | None]:
    answers: list[list[Answer]] = [[] for _ in sent]
    errors: list[ConvLensError | None] = [None] * len(sent)
    done, started = None, time.monotonic()
    regions = [picture.truth for picture in sent]
    given = {**options, "true_regions": regions} if any(r is not None for r in regions) else options
    images = [picture.data for picture in sent]
    with closing(client.explain_stream(images, methods, on_error="return", **given)) as events:
        for event in events:
            if isinstance(event, ExplainProgress):
                show(event)
            elif isinstance(event, ExplainDone):
                done = event
            elif event.attribution is None:
                end_if_of_all(event.error)
                errors[event.image_index] = event.error
            elif event.is_final:
                answer = Answer(event.attribution, time.monotonic() - started)
                answers[event.image_index].append(answer)
    outcomes = [
        Outcome(picture, sorted(own, key=_place), error)
        for picture, own, error in zip(sent, _at_one_scale(answers), errors, strict=True)
    ]
    return outcomes, done


def _at_one_scale(answers: Sequence[Sequence[Answer]]) -> list[list[Answer]]:
    """Lets all patches of a map have one scale, which a stream does not wait for."""
    found = at_one_scale([[answer.attribution for answer in own] for own in answers])
    return [
        [replace(answer, attribution=each) for answer, each in zip(own, scaled, strict=True)]
        for own, scaled in zip(answers, found, strict=True)
    ]


def _place(answer: Answer) -> tuple[int, int]:
    target = answer.attribution.target_index
    return answer.attribution.method_index, -1 if target is None else target
