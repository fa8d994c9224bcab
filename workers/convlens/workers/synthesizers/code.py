"""Codes: what a network makes of a picture, at a layer or at its end."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.workers.anatomy import Trace
from convlens.workers.runner import Outputs, Pass
from convlens.workers.selection import Selected

LOGITS, LOG_PROBABILITIES = "logits", "log-probabilities"
# What is no layer, but what comes of all of them.
SCORES = (LOGITS, LOG_PROBABILITIES)


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Where a code of some `shape` is read: at a call, or at the scores (None).

    `depth` is the share of the network's weighted calls that it took. What is inverted is the code
    of `picture` [channels, height, width], as the network sees it, in [0, 1]; or it is `given`.
    """

    call: int | None
    log: bool
    shape: tuple[int, ...]
    depth: float
    picture: Tensor | None = None
    given: Tensor | None = None

    def of(self, picture: Tensor) -> "Code":
        """This one, to be inverted for a picture of the network's size."""
        return replace(self, picture=picture)

    def as_given(self, code: Tensor) -> "Code":
        """This one, to be inverted for the numbers of a caller.

        Raises Failure INVALID_REQUEST where they have another shape, or are all 0.
        """
        if tuple(code.shape) != self.shape:
            words = f"has the shape {list(code.shape)}; must be {list(self.shape)}"
            raise invalid([Violation(field="method.inversion.code", description=words)])
        if not code.count_nonzero():
            raise self.nothing("code")
        most = float(code.abs().max())
        if not _LEAST <= most <= _MOST:
            words = (
                f"has {most:g} as its largest magnitude; must have one from {_LEAST:g} to "
                f"{_MOST:g}, whose squares float32 can tell apart"
            )
            raise invalid([Violation(field="method.inversion.code", description=words)])
        return replace(self, given=code)

    def nothing(self, source: str) -> Exception:
        """What a caller is told whose code is 0, so that no distance is relative to it."""
        words = (
            "has a code of zeros alone, to which no distance is relative; choose another layer"
            if source == "image"
            else "is all 0, and no distance is relative to that; send one that is not"
        )
        return invalid([Violation(field=f"method.inversion.{source}", description=words)])

    def read(self, outputs: Outputs) -> Tensor:
        """The codes [n, *shape] in what the network gave."""
        if self.call is not None:
            return outputs.captured[self.call]
        return outputs.scores.log_softmax(-1) if self.log else outputs.scores

    def ask(
        self,
        pixels: Tensor,
        objective: Callable[[Outputs], Tensor] | None,
        so_far: Callable[[], object],
    ) -> Pass:
        """Asks for the code of one picture; it goes no deeper than it must."""
        capture = () if self.call is None else (self.call,)
        return Pass(pixels[None], objective, capture, stops=bool(capture), so_far=so_far)


# Of the largest number of a code that a caller gives.
_LEAST, _MOST = 1e-9, 1e9


def code_at(layer: str, selected: Selected | None, trace: Trace, classes: int) -> Code:
    """The code at a layer of the trace, or at one of SCORES, where nothing is selected."""
    if selected is None:
        return Code(None, layer == LOG_PROBABILITIES, (classes,), 1.0)
    return Code(selected.call, False, selected.output.shape, depth_of(trace, selected.call))


def depth_of(trace: Trace, call: int) -> float:
    """The share of the calls with trained weights that are made up to a call, itself included."""
    trained = {name for node in trace.nodes.values() for name in node.parameters}
    weighted = [
        each.index
        for each in trace.calls
        if any(operand.parameter in trained for operand in each.operands)
    ]
    return sum(index <= call for index in weighted) / max(len(weighted), 1)


class Distance:
    """The squared Euclidean distance from a code, relative to its own; a pass's objective.

    Raises Failure INVALID_REQUEST where the code is all 0.
    """

    def __init__(self, code: Code, wanted: Tensor) -> None:
        self._code, self._wanted = code, wanted
        self._length = wanted.square().sum()
        if not self._length:
            raise code.nothing("image" if code.given is None else "code")

    def __call__(self, outputs: Outputs) -> Tensor:
        apart = self._code.read(outputs) - self._wanted
        return apart.square().flatten(1).sum(1) / self._length
