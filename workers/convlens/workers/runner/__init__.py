"""The runner: methods ask for passes, and the passes of all callers are computed together."""

from convlens.workers.runner.asking import (
    Answer,
    Body,
    Objective,
    Outputs,
    Pass,
    Points,
    Steps,
    side_by_side,
)
from convlens.workers.runner.job import AnalysisJob
from convlens.workers.runner.rounds import Key
from convlens.workers.runner.runner import Runner

__all__ = [
    "AnalysisJob",
    "Answer",
    "Body",
    "Key",
    "Objective",
    "Outputs",
    "Pass",
    "Points",
    "Runner",
    "Steps",
    "side_by_side",
]
