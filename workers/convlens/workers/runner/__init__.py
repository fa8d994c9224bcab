"""The runner: methods ask for passes, and the passes of all callers are computed together."""

from convlens.workers.runner.asking import Answer, Objective, Outputs, Pass, Points, Steps
from convlens.workers.runner.runner import AnalysisJob, Runner

__all__ = ["AnalysisJob", "Answer", "Objective", "Outputs", "Pass", "Points", "Runner", "Steps"]
