"""One micro-batch through the network: the only place where the runner meets torch's graph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from convlens.workers.anatomy import INPUT, Reading, Tap, Value
from convlens.workers.body import Body
from convlens.workers.rectifiers import applied
from convlens.workers.runner.asking import Answer, Kind, Objective, Outputs
from convlens.workers.runner.patching import Outcome, compute_patches
from convlens.workers.runner.rounds import MicroBatch, Segment

P = ParamSpec("P")
T = TypeVar("T")


def compute(network: Body, batch: MicroBatch) -> list[list[Outcome]]:
    """What comes of each segment, for each of its items.

    Raises what the network raises, which is about all of them.
    """
    segments = batch.segments
    body = batch.kind.body or network
    if batch.kind.course:
        return compute_patches(body, batch.kind.course, batch)
    made = [_attempt(_points, body, segment) for segment in segments]
    good = [
        (segment, points)
        for segment, points in zip(segments, made, strict=True)
        if isinstance(points, Tensor)
    ]
    answers = iter(_answers(body, batch, good) if good else ())
    return [
        [each] * len(segment.items) if isinstance(each, Exception) else next(answers)
        for segment, each in zip(segments, made, strict=True)
    ]


def _points(body: Body, segment: Segment) -> Tensor:
    return segment.points.detach().to(body.device)


def _answers(
    body: Body, batch: MicroBatch, asked: Sequence[tuple[Segment, Tensor]]
) -> list[list[Outcome]]:
    kind = batch.kind
    pixels = body.place(_padded(torch.cat([points for _, points in asked]), batch.rows))
    counts = [len(points) for _, points in asked]
    with torch.set_grad_enabled(kind.gradient):
        graph = forward(body, kind, pixels.requires_grad_(kind.gradient))
        parts = _split(graph.outputs, counts)
        values = [
            [_attempt(_value, objective, part) for objective in segment.objectives]
            for (segment, _), part in zip(asked, parts, strict=True)
        ]
        gradients = _every_gradient(graph, values, counts)
    return [
        _handed_out(segment, part, value, gradient)
        for (segment, _), part, value, gradient in zip(asked, parts, values, gradients, strict=True)
    ]


def _handed_out(
    segment: Segment,
    part: Outputs,
    values: Sequence[Tensor | Exception | None],
    gradients: Sequence[Mapping[int, Tensor]],
) -> list[Outcome]:
    """The answer for each item of a segment; items with the same objective get the same one."""
    answers: dict[Objective | None, Outcome] = {
        objective: value if isinstance(value, Exception) else _answer(part, value, gradient)
        for objective, value, gradient in zip(segment.objectives, values, gradients, strict=True)
    }
    return [answers[item.wanted.objective] for item in segment.items]


def _padded(points: Tensor, rows: int) -> Tensor:
    """With the last point repeated, whose numbers cannot be odder than they are."""
    missing = rows - len(points)
    return torch.cat([points, points[-1:].expand(missing, -1, -1, -1)]) if missing else points


@dataclass(frozen=True, slots=True)
class Forward:
    """A forward pass of a micro-batch, and where gradients reach what they are asked by."""

    outputs: Outputs
    sources: Mapping[int, Tensor | GradientEdge]
    values: Mapping[int, Value]
    rows: int


def forward(body: Body, kind: Kind, pixels: Tensor) -> Forward:
    """Runs pixels [rows, channels, height, width] through the network as passes of a kind ask."""
    watched = [call for call in kind.by if call != INPUT]
    values = {call: body.trace.calls[call].outputs[0] for call in (*kind.capture, *watched)}
    with applied(kind.rule):
        if values:
            outputs, edges = _read(body, kind, pixels, values, watched)
        else:
            outputs, edges = Outputs(_scores(body, kind, pixels), {}), {}
    sources: dict[int, Tensor | GradientEdge] = {INPUT: pixels, **edges}
    return Forward(outputs, {call: sources[call] for call in kind.by}, values, len(pixels))


def _scores(body: Body, kind: Kind, pixels: Tensor) -> Tensor:
    # A rule must see the calls, which compiled code does not make.
    return body.scores(pixels) if kind.rule is None else body.module(pixels)


def _read(
    body: Body, kind: Kind, pixels: Tensor, values: Mapping[int, Value], watched: Sequence[int]
) -> tuple[Outputs, Mapping[int, GradientEdge]]:
    captured: dict[int, Tensor] = {}

    def keep(call: int) -> Tap:
        return lambda output: captured.update({call: values[call].rows(output, len(pixels))})

    taps = {call: keep(call) for call in kind.capture}
    reading = Reading(body.trace, taps, watched=watched, stop=kind.stops)
    scores = reading.run(body.module, pixels)
    # A pass that ends at the network's last call has scores all the same; nobody asked for them.
    if kind.stops or scores is None:
        scores = pixels.new_empty(len(pixels), 0)
    return Outputs(scores, captured), reading.edges


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


def _value(objective: Objective | None, part: Outputs) -> Tensor | None:
    return None if objective is None else objective(part)


def _every_gradient(
    graph: Forward, values: Sequence[Sequence[Tensor | Exception | None]], counts: Sequence[int]
) -> list[list[dict[int, Tensor]]]:
    """The gradients of each segment, for each of its objectives."""
    most = max(map(len, values))
    turns = [
        _gradients(
            graph,
            [each[turn] if turn < len(each) else None for each in values],
            counts,
            is_last=turn == most - 1,
        )
        for turn in range(most)
    ]
    return [[turn[n] for turn in turns[: len(each)]] for n, each in enumerate(values)]


def _gradients(
    graph: Forward,
    values: Sequence[Tensor | Exception | None],
    counts: Sequence[int],
    is_last: bool,
) -> list[dict[int, Tensor]]:
    """The gradients of each segment. Rows do not meet in the network, so each row's is its own."""
    good = [value.sum() for value in values if isinstance(value, Tensor)]
    if not good or not graph.sources:
        return [{} for _ in values]
    # torch takes tensors and edges together, which its types do not say.
    sources = cast("Any", list(graph.sources.values()))
    total = torch.stack(good).sum()
    found = cast(
        "Sequence[Tensor | None]",
        torch.autograd.grad(total, sources, retain_graph=not is_last, allow_unused=True),
    )
    split = {
        call: torch.split(_rows(graph, call, gradient)[: sum(counts)], list(counts))
        for call, gradient in zip(graph.sources, found, strict=True)
    }
    return [{call: parts[n] for call, parts in split.items()} for n in range(len(counts))]


def _rows(graph: Forward, call: int, gradient: Tensor | None) -> Tensor:
    """The gradient of each row; zero where nothing of it reaches the value."""
    if call == INPUT:
        pixels = graph.sources[INPUT]
        assert isinstance(pixels, Tensor)
        return torch.zeros_like(pixels) if gradient is None else gradient
    value = graph.values[call]
    if gradient is None:
        return torch.zeros(graph.rows, *value.shape, device=graph.outputs.scores.device)
    return value.rows(gradient, graph.rows)


def _answer(part: Outputs, value: Tensor | None, gradients: Mapping[int, Tensor]) -> Answer:
    captured = {call: layer.detach() for call, layer in part.captured.items()}
    values = None if value is None else value.detach()
    return Answer(part.scores.detach(), captured, values, gradients)


def _attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error
