"""A line now and then, where there is no terminal."""

import time

import click

from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import Stage
from convlens.loadtest.results.model import Figures
from convlens.loadtest.results.words import digits, rate, seconds
from convlens.loadtest.scenario import Phase
from convlens.loadtest.showing.lately import lately, loads_in_words

# Seconds between two lines.
EVERY = 5.0


class Lines:
    """Writes lines to stderr; none of them where it is `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._next = time.monotonic() + EVERY
        self._is_lost = False

    def phase(self, phase: Phase, stage: Stage, peak: float | None) -> None:
        """A stage has been announced."""
        self._next = max(self._next, stage.begin + EVERY)
        length = "" if phase.steps else f" for {stage.seconds:g} s"
        self.say(f"{phase.name}: {loads_in_words(stage.loads)}{length}")

    def look(self, tally: Tally, now: float) -> None:
        """Some time has passed."""
        is_lost = tally.unreachable_since is not None
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            sentence = tally.sentences.get("SERVER_UNREACHABLE", "No server answers.")
            self.say(sentence if is_lost else "The server answers again.")
        if now < self._next:
            return
        self._next = now + EVERY
        seen = lately(tally)
        self.say(
            f"  {rate(seen.good)} good, {rate(seen.failed)} failed, p50 {seconds(seen.p50)}, "
            f"p99 {seconds(seen.p99)}, {seen.in_flight} under way"
        )

    def step(self, rate: float, found: Figures, saturated: bool) -> None:
        """What came of a step."""
        self.say(step_line(rate, found, saturated))

    def say(self, line: str) -> None:
        """Any other line."""
        if not self._quiet:
            click.echo(line, err=True)


def step_line(offered: float, found: Figures, saturated: bool) -> str:
    """What came of a step, in a line."""
    p99 = found.latency.p99 if found.latency else None
    verdict = "too much" if saturated else "kept up"
    return (
        f"  {digits(offered)}/s offered: {rate(found.goodput)} good, p99 {seconds(p99)}: {verdict}"
    )
