"""Explain: what in a picture a network's answer rests on, by any methods, for any classes."""

from convlens.workers.explain.job import ExplainJob
from convlens.workers.explain.sizes import check_response, check_work, too_much_work
from convlens.workers.explain.streaming import ExplainStreamJob
from convlens.workers.explain.subject import Subject
from convlens.workers.explain.verify import not_finite

__all__ = [
    "ExplainJob",
    "ExplainStreamJob",
    "Subject",
    "check_response",
    "check_work",
    "not_finite",
    "too_much_work",
]
