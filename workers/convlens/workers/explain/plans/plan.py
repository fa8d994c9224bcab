"""A method that is ready for any picture and any class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.workers.explain.found import Found
from convlens.workers.explain.recalling import Opening
from convlens.workers.explain.subject import Subject
from convlens.workers.pictures import Picture
from convlens.workers.runner import Steps

# The method at work on one picture, for one class.
Begin: TypeAlias = Callable[[Picture, int], Steps[Found]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A method in a request: its parameters with every default, and where they stand.

    `path` names the parameters in a violation, "methods[0].occlusion". `seed` and `dtype`, the type
    of every array of numbers in the answer, are the request's.
    """

    p: Any
    path: str
    seed: int
    dtype: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What a planner makes of a method; `numbers` are those of its answer, its map included.

    `opening` is its first pass, where that can bring the picture's scores too.
    """

    begin: Begin
    numbers: int
    opening: Opening | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A method of a request, ready for any picture and any class."""

    method: ExplanationMethod
    title: str
    target_free: bool
    planned: Planned

    @property
    def numbers(self) -> int:
        """Those of its answer, its map included."""
        return self.planned.numbers

    @property
    def begin(self) -> Begin:
        """Puts it to work."""
        return self.planned.begin


Planner: TypeAlias = Callable[[Subject, Wanted], Planned]
