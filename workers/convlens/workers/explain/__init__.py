"""Explain: what in a picture a network's answer rests on, by any methods, for any classes."""

from convlens.workers.explain.job import ExplainJob
from convlens.workers.explain.streaming import ExplainStreamJob
from convlens.workers.explain.subject import Subject

__all__ = ["ExplainJob", "ExplainStreamJob", "Subject"]
