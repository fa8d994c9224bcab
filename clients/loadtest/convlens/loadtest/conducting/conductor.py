"""Goes through the phases of a scenario."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from convlens.loadtest.conducting.figures import figures
from convlens.loadtest.conducting.fleet import Fleet
from convlens.loadtest.conducting.stages import loads_of
from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import Report, Stage, Stop
from convlens.loadtest.results.model import Figures
from convlens.loadtest.scenario import Phase, Scenario
from convlens.loadtest.traffic.arrivals import Course

# What ends a run in order.
ENDING = (signal.SIGINT, signal.SIGTERM)
# Seconds from an order to its stage, which it must be known before.
LEAD = 0.3
# Seconds beyond the last deadline until all that was sent has come to its end.
DRAIN = 5.0
LOOK = 0.25
INTERRUPTED = "interrupted"
# Which cells count.
Chosen: TypeAlias = Callable[[tuple[int, int, int]], bool]


class View(Protocol):
    """Shows how far it is."""

    def phase(self, phase: Phase, stage: Stage, peak: float | None) -> None:
        """A stage of a phase has been announced."""
        ...

    def look(self, tally: Tally, now: float) -> None:
        """Some time has passed; `now` is of the monotonic clock."""
        ...

    def step(self, rate: float, found: Figures, saturated: bool) -> None:
        """What came of a step."""
        ...


@dataclass(slots=True)
class Done:
    """A phase that was run, as far as it was."""

    phase: Phase
    #: Its stages: one, or one for each step.
    stages: list[int] = field(default_factory=list[int])
    #: Of each step: its rate, and whether it was too much.
    steps: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])
    peak: float | None = None
    saturating: float | None = None


class Ended(Exception):
    """The run is over before its time; the text says why."""


class Conductor:
    """Runs a scenario on a fleet; `done` has the phases so far, whatever ends the run."""

    def __init__(
        self, scenario: Scenario, fleet: Fleet, tally: Tally, view: View, processes: int
    ) -> None:
        self.done: list[Done] = []
        self.epoch = time.monotonic() + LEAD
        self.peak: float | None = None
        self._scenario = scenario
        self._fleet, self._tally, self._view = fleet, tally, view
        self._processes = processes
        self._interrupted = False
        self._longest = max(call.deadline or scenario.deadline for call in scenario.calls.values())

    def run(self) -> str:
        """Runs all phases; why it ended before its time, or nothing."""
        before = {number: signal.signal(number, self._interrupt) for number in ENDING}
        try:
            begin = self.epoch
            for phase in self._scenario.phases:
                self.done.append(Done(phase))
                begin = self._steps(begin) if phase.steps else self._plain(begin)
            self._drain()
            why = ""
        except Ended as error:
            why = str(error)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._stop()
        return why

    def _plain(self, begin: float) -> float:
        """Runs a phase until just before its end, so that the next one follows it closely."""
        phase = self.done[-1].phase
        stage = self._announce(begin, phase.duration or 0.0)
        is_last = phase is self._scenario.phases[-1]
        self._hear(stage.end if is_last else stage.end - LEAD)
        return stage.end

    def _steps(self, begin: float) -> float:
        """Runs rate after rate, each when all of the one before has ended."""
        done = self.done[-1]
        steps = done.phase.steps
        assert steps is not None
        found: dict[float, float] = {}
        too_much = 0
        for rate in steps.rates():
            found[rate], saturated = self._step(begin, rate, steps.each)
            if saturated:
                done.saturating = done.saturating or rate
            too_much = too_much + 1 if saturated else 0
            if too_much >= steps.stop_after:
                break
        best = max(found, key=lambda rate: found[rate])
        done.peak = found[best]
        if steps.hold:
            done.peak, _ = self._step(begin, best, steps.hold)
        self.peak = done.peak
        return time.monotonic() + LEAD

    def _step(self, begin: float, rate: float, length: float) -> tuple[float, bool]:
        """Runs a step from `begin` on, or from now; its goodput, and whether it was too much."""
        done = self.done[-1]
        assert done.phase.steps is not None
        self._drain()
        begin = max(begin, time.monotonic() + LEAD)
        stage = self._announce(begin, length, Course(rate, rate, length))
        self._hear(stage.end)
        self._drain()
        found = figures(self._tally, [stage.number], self._of_steps(done.phase))
        saturated = _is_too_much(found, done.phase.steps.enough)
        done.steps.append((rate, saturated))
        # As far as it is known, where the run ends here.
        done.peak = max(done.peak or 0.0, found.goodput)
        self._view.step(rate, found, saturated)
        return found.goodput, saturated

    def _of_steps(self, phase: Phase) -> Chosen:
        """Which cells are of the steps, and not of callers beside them."""
        assert phase.steps is not None
        mix = phase.steps.mix
        if phase.closed is None or mix is None:
            return lambda key: True
        numbers = {n for n, name in enumerate(self._scenario.calls) if mix.get(name)}
        return lambda key: key[1] in numbers

    def _announce(self, begin: float, seconds: float, step: Course | None = None) -> Stage:
        done = self.done[-1]
        loads = list(loads_of(self._scenario, done.phase, self.peak, step))
        stage = Stage(len(self._tally.stages), begin, seconds, loads, self.epoch)
        self._tally.begin(stage)
        done.stages.append(stage.number)
        self._fleet.tell(stage)
        self._view.phase(done.phase, stage, self.peak)
        return stage

    def _hear(self, until: float) -> None:
        """Listens until then."""
        while (left := until - time.monotonic()) > 0:
            self._listen(min(left, LOOK))

    def _drain(self) -> None:
        """Listens until all that was sent has come to its end."""
        until = time.monotonic() + self._longest + DRAIN
        while self._waits() and time.monotonic() < until:
            self._listen(LOOK)

    def _waits(self) -> bool:
        return not all(
            self._tally.has_ended(number, self._processes) for number in self._tally.stages
        )

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C, or a cluster that ends the Job: the run ends in order; then, it just ends."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    def _listen(self, seconds: float) -> None:
        if self._interrupted:
            raise Ended(INTERRUPTED)
        for message in self._fleet.heard(seconds):
            if isinstance(message, Report):
                self._tally.add(message)
        now = time.monotonic()
        self._view.look(self._tally, now)
        since = self._tally.unreachable_since
        patience = self._scenario.give_up_after
        if since is not None and now - since > patience:
            sentence = self._tally.sentences.get("SERVER_UNREACHABLE", "")
            raise Ended(f"no server has answered for {patience:g} s. {sentence}".rstrip(" ."))

    def _stop(self) -> None:
        self._fleet.tell(Stop())
        for message in self._fleet.last_words():
            if isinstance(message, Report):
                self._tally.add(message)


def _is_too_much(found: Figures, enough: float) -> bool:
    """Whether too few had a good answer, or answers came more slowly than requests.

    One request more or less says nothing.
    """
    kept_up = min(found.goodput * found.seconds, found.good)
    return found.due - kept_up > (1 - enough) * found.due + 1
