"""Follows a synthesis to its end, and goes on where the server goes away."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import click

from convlens.client import (
    Client,
    Overloaded,
    SynthesisDone,
    SynthesisPreview,
    SynthesisProgress,
    Unavailable,
    methods,
)
from convlens.client._text import printable
from convlens.client._transport import Patience
from convlens.client.cli._progress import progress
from convlens.client.cli._rows import percent
from convlens.client.cli._synthesis_files import Album
from convlens.contract import with_defaults

# How long a server that went away may take to come back, in seconds and attempts.
PATIENCE, ATTEMPTS = 180.0, 11
# What is looked for, by the method.
OBJECTIVES = {"unit_maximization": "activation", "inversion": "distance"}

Show: TypeAlias = Callable[[SynthesisProgress], None]


@dataclass(slots=True)
class Run:
    """One synthesis; `options` are those of `synthesize`."""

    client: Client
    method: Any
    options: Mapping[str, Any]
    timeout: float | None
    album: Album
    show: Show
    _received: int = field(default=0, init=False)

    def done(self) -> SynthesisDone:
        """The end; what there is before is kept, whatever ends this."""
        try:
            return self._followed(time.monotonic())
        except BaseException:
            self.album.stop()
            raise

    def _followed(self, started: float) -> SynthesisDone:
        known, patience = self._received, Patience(PATIENCE, ATTEMPTS)
        while True:
            try:
                return self._asked(started)
            except (Overloaded, Unavailable) as error:
                if not self._received:
                    raise
                if self._received > known:
                    known, patience = self._received, Patience(PATIENCE, ATTEMPTS)
                pause = patience.pause(error)
                click.echo(f"convlens: note: {printable(error.message)} Trying again.", err=True)
                time.sleep(pause)

    def _asked(self, started: float) -> SynthesisDone:
        """One call, from the last preview on."""
        remaining = self.timeout
        if remaining is not None:
            # What is over by now is over at the server too, which says it better.
            remaining = max(0.001, started + remaining - time.monotonic())
        events = self.client.synthesize(
            self.method, checkpoint=self.album.checkpoint, timeout=remaining, **self.options
        )
        with closing(events):
            for event in events:
                if isinstance(event, SynthesisDone):
                    return event
                self._received += 1
                if isinstance(event, SynthesisPreview):
                    self.album.preview(event)
                elif isinstance(event, SynthesisProgress):
                    self.album.expect(len(event.pictures))
                    self.show(event)
        raise AssertionError("a stream without an end is an error of the client")


@contextmanager
def shown_growth(name: str, method: methods.SynthesisMethod) -> Generator[Show, None, None]:
    """Shows how far the pictures are."""
    objective = OBJECTIVES.get(str(method.WhichOneof("method")), "score")
    confidence = with_defaults(method.fooling).confidence
    with progress(f"{name}{{task.description}}") as bar:
        task = bar.add_task("", total=None)

        def show(event: SynthesisProgress) -> None:
            words = standing(event, objective, confidence)
            bar.update(task, completed=event.step, total=event.steps, description=f" {words}")

        yield show


def standing(event: SynthesisProgress, objective: str, confidence: float) -> str:
    """How the pictures stand, in a few words: of one its numbers, of several their mean."""
    several = event.pictures
    if not several:
        return ""
    known = [each.probability for each in several if each.probability is not None]
    if len(several) > 1 and known:
        sure = sum(each >= confidence for each in known)
        return f"{sure} of {len(several)} at {percent(confidence)}"
    mean = sum(each.objective for each in several) / len(several)
    said = f"{objective} {mean:#.3g}"
    return f"{said}, {percent(known[0])}" if known else said
