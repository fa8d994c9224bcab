"""Draws many pattern-producing networks at a time, for devices that are slow to be asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from operator import itemgetter

import torch
from torch import Tensor

from convlens.workers.synthesizers.cppn import INPUTS, Activation, Genome
from convlens.workers.synthesizers.cppn_activations import activate


def draw_together(genomes: Sequence[Genome], outputs: int, inputs: Tensor) -> Tensor:
    """What the networks put out [genomes, outputs, pixels] at inputs [inputs, pixels].

    Nothing but a number's own wires decides its bits: each is the sum of products in their order,
    element by element.
    """
    plan = _plan(genomes, outputs)
    sources = torch.tensor(plan.sources, device=inputs.device)
    weights = torch.tensor(plan.weights, dtype=inputs.dtype, device=inputs.device)[:, None]
    values = inputs.new_zeros(plan.rows, inputs.shape[1])
    values[:INPUTS] = inputs
    for level in plan.levels:
        nodes = values[level.rows]
        for turn in range(level.fan):
            start = level.start + turn * len(nodes)
            wires = slice(start, start + len(nodes))
            nodes.addcmul_(values[sources[wires]], weights[wires])
        for activation, rows in level.spans:
            activate(activation, values[rows])
    return values[torch.tensor(plan.ends, device=inputs.device)]


@dataclass(frozen=True, slots=True)
class _Level:
    """Nodes that are computed at a time: their rows, those of each activation side by side.

    Their wires are `fan` for each, one after the other, from `start` on; missing ones weigh 0.
    """

    rows: slice
    spans: Sequence[tuple[Activation, slice]]
    start: int
    fan: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """How genomes are drawn, row by row; the first rows are the inputs.

    `sources` and `weights` are those of the wires of all levels, `ends` the rows that are put out.
    """

    rows: int
    levels: Sequence[_Level]
    sources: Sequence[int]
    weights: Sequence[float]
    ends: Sequence[Sequence[int]]


def _plan(genomes: Sequence[Genome], outputs: int) -> _Plan:
    wires = [genome.reads() for genome in genomes]
    places: list[dict[int, int]] = [{end: end for end in range(INPUTS)} for _ in genomes]
    levels: list[_Level] = []
    sources: list[int] = []
    weights: list[float] = []
    row = INPUTS
    for of_each in zip_longest(*(genome.levels() for genome in genomes), fillvalue=()):
        nodes = sorted(
            (genomes[owner].nodes[node - INPUTS], owner, node)
            for owner, level in enumerate(of_each)
            for node in level
        )
        fan = max(len(wires[owner][node]) for _, owner, node in nodes)
        rows = slice(row, row + len(nodes))
        levels.append(_Level(rows, _spans(nodes, row), len(sources), fan))
        for turn in range(fan):
            for _, owner, node in nodes:
                read = wires[owner][node]
                source, weight = read[turn] if turn < len(read) else (0, 0.0)
                sources.append(places[owner][source])
                weights.append(weight)
        for _, owner, node in nodes:
            places[owner][node] = row
            row += 1
    ends = [[place[INPUTS + output] for output in range(outputs)] for place in places]
    return _Plan(row, levels, sources, weights, ends)


def _spans(
    nodes: Sequence[tuple[Activation, int, int]], row: int
) -> list[tuple[Activation, slice]]:
    spans: list[tuple[Activation, slice]] = []
    for activation, same in groupby(nodes, key=itemgetter(0)):
        end = row + len(list(same))
        spans.append((activation, slice(row, end)))
        row = end
    return spans
