"""A live view of a run in a terminal."""

from collections import Counter, deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import Stage
from convlens.loadtest.results.model import Figures
from convlens.loadtest.results.words import rate, seconds, share
from convlens.loadtest.scenario import Phase, Scenario
from convlens.loadtest.showing.lately import lately, loads_in_words, offered_now
from convlens.loadtest.showing.lines import step_line

BARS = "▁▂▃▄▅▆▇█"
# Values that a line of bars shows, and reasons that are named.
HISTORY, REASONS = 48, 4
# From here on a loop of the generator is shown to be busy.
BUSY = 0.85


class Live:
    """Draws the state of the run again and again, and leaves lines of what is over above it."""

    def __init__(self, scenario: Scenario, console: Console) -> None:
        self._scenario = scenario
        self._console = console
        self._live = RichLive(console=console, auto_refresh=False, transient=True)
        self._phase: Phase | None = None
        self._stage: Stage | None = None
        self._history: deque[tuple[float, float]] = deque(maxlen=HISTORY)
        self._sampled = 0.0
        self._is_lost = False

    def __enter__(self) -> "Live":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def phase(self, phase: Phase, stage: Stage, peak: float | None) -> None:
        """A stage has been announced."""
        if phase is not self._phase:
            length = "" if phase.steps else f" for {stage.seconds:g} s"
            words = "steps" if phase.steps else loads_in_words(stage.loads)
            self._say(Text.assemble((phase.name, "bold"), f"  {words}{length}"))
        self._phase, self._stage = phase, stage

    def look(self, tally: Tally, now: float) -> None:
        """Some time has passed."""
        is_lost = tally.unreachable_since is not None
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            sentence = tally.sentences.get("SERVER_UNREACHABLE", "No server answers.")
            words = sentence if is_lost else "The server answers again."
            self._say(Text(words, "red" if is_lost else "green"))
        self._live.update(self._drawn(tally, now), refresh=True)

    def step(self, rate: float, found: Figures, saturated: bool) -> None:
        """What came of a step."""
        self._say(Text(step_line(rate, found, saturated), "yellow" if saturated else ""))

    def _say(self, text: Text) -> None:
        self._console.print(text, highlight=False)

    def _drawn(self, tally: Tally, now: float) -> Group:
        seen = lately(tally)
        if now - self._sampled >= 1:
            self._sampled = now
            self._history.append((seen.good, seen.p99))
        table = Table.grid(padding=(0, 2))
        for _ in range(2):
            table.add_column(justify="right", style="dim")
            table.add_column(min_width=12)
        offered = offered_now(self._stage, now) if self._stage else None
        busy = Text(share(round(seen.busy, 2)), "yellow" if seen.busy > BUSY else "")
        table.add_row("offered", rate(offered), "p50", seconds(seen.p50))
        table.add_row("good", rate(seen.good), "p99", seconds(seen.p99))
        failed = Text(rate(seen.failed), "red" if seen.failed else "")
        table.add_row("failed", failed, "under way", str(seen.in_flight))
        table.add_row("", "", "generator", busy)
        goods, p99s = zip(*self._history, strict=True) if self._history else ((), ())
        lines = Table.grid(padding=(0, 2))
        lines.add_row(Text("good", "dim"), Text(bars(goods), "green"))
        lines.add_row(Text("p99", "dim"), Text(bars(p99s), "cyan"))
        return Group(self._bar(now), table, lines, Text(_reasons(tally), "red"))

    def _bar(self, now: float) -> Table:
        line = Table.grid(padding=(0, 2))
        if self._stage and self._phase:
            done = min(self._stage.seconds, max(0.0, now - self._stage.begin))
            words = f"{self._phase.name}: {loads_in_words(self._stage.loads)}"
            bar = ProgressBar(self._stage.seconds, done, width=24)
            line.add_row(Text(words, "bold"), bar, f"{done:.0f} of {self._stage.seconds:.0f} s")
        return line


def bars(values: "tuple[float, ...]") -> str:
    """Heights of values, beside the largest of them; a blank for what is no number."""
    real = [value for value in values if value == value]
    most = max(real, default=0.0) or 1.0
    return "".join(
        BARS[min(7, int(value / most * 7.999))] if value == value else " " for value in values
    )


def _reasons(tally: Tally) -> str:
    total: Counter[str] = Counter()
    for cell in tally.cells.values():
        total += cell.reasons
    return ", ".join(f"{name} {count:,}" for name, count in total.most_common(REASONS))
