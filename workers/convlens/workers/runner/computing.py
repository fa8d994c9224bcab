"""One micro-batch through the network: the only place where the runner meets torch's graph."""

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from convlens.workers.anatomy import Reading, Tap
from convlens.workers.network import ServedNetwork
from convlens.workers.runner.asking import Answer, Kind, Outputs
from convlens.workers.runner.rounds import MicroBatch, Segment

P = ParamSpec("P")
T = TypeVar("T")

# The answer for one segment, or what its own points or objective raised.
Outcome: TypeAlias = Answer | Exception


def compute(network: ServedNetwork, batch: MicroBatch) -> list[Outcome]:
    """What comes of each segment; raises what the network raises, which is about all of them."""
    segments = batch.segments
    made = [_attempt(_points, network, segment) for segment in segments]
    good = [
        (segment, points)
        for segment, points in zip(segments, made, strict=True)
        if isinstance(points, Tensor)
    ]
    answers = iter(_answers(network, batch, good) if good else ())
    return [each if isinstance(each, Exception) else next(answers) for each in made]


def _points(network: ServedNetwork, segment: Segment) -> Tensor:
    points = segment.item.wanted.points[segment.start : segment.stop]
    return points.detach().to(network.device)


def _answers(
    network: ServedNetwork, batch: MicroBatch, asked: Sequence[tuple[Segment, Tensor]]
) -> list[Outcome]:
    pixels = network.place(_padded(torch.cat([points for _, points in asked]), batch.rows))
    counts = [len(points) for _, points in asked]
    with torch.set_grad_enabled(batch.kind.gradient):
        outputs = _forward(network, batch.kind, pixels.requires_grad_(batch.kind.gradient))
        parts = _split(outputs, counts)
        values = [
            _attempt(_value, segment, part) for (segment, _), part in zip(asked, parts, strict=True)
        ]
        gradients = _gradients(pixels, values, counts)
    return [
        value if isinstance(value, Exception) else _answer(part, value, gradient)
        for part, value, gradient in zip(parts, values, gradients, strict=True)
    ]


def _padded(points: Tensor, rows: int) -> Tensor:
    """With the last point repeated, whose numbers cannot be odder than they are."""
    missing = rows - len(points)
    return torch.cat([points, points[-1:].expand(missing, -1, -1, -1)]) if missing else points


def _forward(network: ServedNetwork, kind: Kind, pixels: Tensor) -> Outputs:
    if not kind.capture:
        return Outputs(network.scores(pixels), {})
    captured: dict[int, Tensor] = {}

    def keep(call: int) -> Tap:
        value = network.trace.calls[call].outputs[0]
        return lambda output: captured.update({call: value.rows(output, len(pixels))})

    taps = {call: keep(call) for call in kind.capture}
    scores = Reading(network.trace, taps, stop=False).run(network.module, pixels)
    assert scores is not None
    return Outputs(scores, captured)


def _split(outputs: Outputs, counts: Sequence[int]) -> list[Outputs]:
    """The outputs of each segment; those of the padding are nobody's."""
    parts: list[Outputs] = []
    start = 0
    for count in counts:
        rows = slice(start, start + count)
        captured = {call: layer[rows] for call, layer in outputs.captured.items()}
        parts.append(Outputs(outputs.scores[rows], captured))
        start += count
    return parts


def _value(segment: Segment, part: Outputs) -> Tensor | None:
    objective = segment.item.wanted.objective
    return None if objective is None else objective(part)


def _gradients(
    pixels: Tensor, values: Sequence[Tensor | Exception | None], counts: Sequence[int]
) -> list[Tensor | None]:
    """The gradient of each segment. Rows do not meet in the network, so each row's is its own."""
    good = [value.sum() for value in values if isinstance(value, Tensor)]
    if not good:
        return [None] * len(values)
    [gradient] = torch.autograd.grad(torch.stack(good).sum(), pixels)
    return list(torch.split(gradient[: sum(counts)], list(counts)))


def _answer(part: Outputs, value: Tensor | None, gradient: Tensor | None) -> Answer:
    captured = {call: layer.detach() for call, layer in part.captured.items()}
    values = None if value is None else value.detach()
    return Answer(part.scores.detach(), captured, values, gradient)


def _attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error
