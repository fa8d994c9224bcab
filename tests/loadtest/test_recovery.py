"""When a phase has recovered: what was due and never sent is no good answer."""

import numpy as np
import pytest

from convlens.loadtest.conducting.figures import recovery
from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import PART, RECORD, Report, Stage, Vitals

# Seconds of the run at which the phase begins.
BEGIN, RATE = 2.0, 40


def tallied(unsent_seconds: float) -> Tally:
    """Four seconds of good answers, with as much again that is not sent in the first of them."""
    tally = Tally([1.0], 10)
    tally.begin(Stage(0, 100 + BEGIN, 4.0, [], 100))
    due = BEGIN + np.arange(4 * RATE) / RATE
    rows = np.zeros(len(due), RECORD)
    rows["due"], rows["latency"], rows["first"] = due, 0.01, np.nan
    parts = range(int(BEGIN / PART), int((BEGIN + unsent_seconds) / PART))
    unsent = {(0, 0, 0, part): int(RATE * PART) for part in parts}
    tally.add(Report(0, rows.tobytes(), [], {}, {}, unsent, Vitals(0, 0, 0, 0), [0]))
    return tally


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5])
def test_recovery_counts_what_could_not_be_sent(seconds: float) -> None:
    assert recovery(tallied(seconds).stages[0]) == seconds


def test_what_could_not_be_sent_is_in_its_interval() -> None:
    tally = tallied(1.0)
    due = {number: each.due for number, each in tally.intervals.items()}
    assert tally.interval == 0.5
    assert [due[n] for n in range(4, 12)] == [RATE] * 2 + [RATE // 2] * 6
