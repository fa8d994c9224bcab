"""What a method found for one picture and one class, before it is put into words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import explanation_pb2
from convlens.v1.quality_pb2 import QualityValue
from convlens.workers.runner import Answer, Pass, Steps

R = TypeVar("R")
S = TypeVar("S")

SIGNED = explanation_pb2.MAP_SIGN_SIGNED
NON_NEGATIVE = explanation_pb2.MAP_SIGN_NON_NEGATIVE
RECONSTRUCTION = explanation_pb2.MAP_SIGN_RECONSTRUCTION


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A map [height, width] or [height, width, channels] and what belongs to it.

    `details` are what the method has to say beyond its map, and `draw` draws what is in them. `box`
    is the part of the original picture that the map covers, where it is not the network's input.
    """

    map: Tensor | None
    sign: explanation_pb2.MapSign.ValueType
    quantity: str
    samples: int = 1
    layer: str = ""
    space: explanation_pb2.MapSpace.ValueType = explanation_pb2.MAP_SPACE_INPUT_PIXELS
    box: tuple[float, float, float, float] | None = None
    error: explanation_pb2.ErrorEstimate | None = None
    notes: tuple[str, ...] = ()
    details: explanation_pb2.Attribution | None = None
    draw: Callable[[explanation_pb2.Attribution, explanation_pb2.Rendering], None] | None = None
    is_partial: bool = False
    scores: Mapping[int, QualityValue | Failure] | None = None


def converted(
    steps: Steps[R], convert: Callable[[R], S], partial: Callable[[R], S | None]
) -> Steps[S]:
    """A method whose result, and what it would return so far, become something else."""
    answer: Answer | None = None
    try:
        while True:
            # What is sent first starts a generator, and must be None.
            wanted = steps.send(answer)  # pyright: ignore[reportArgumentType]
            if isinstance(wanted, Pass) and wanted.so_far:
                wanted = replace(wanted, so_far=_later(wanted.so_far, partial))
            answer = yield wanted
    except StopIteration as end:
        return convert(end.value)
    finally:
        steps.close()


def _later(
    so_far: Callable[[], object], partial: Callable[[R], S | None]
) -> Callable[[], S | None]:
    def now() -> S | None:
        result = so_far()
        return None if result is None else partial(result)  # pyright: ignore[reportArgumentType]

    return now
