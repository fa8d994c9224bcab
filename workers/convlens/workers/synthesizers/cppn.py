"""Compositional pattern-producing networks: genomes of regular pictures.

Stanley 2007, doi:10.1007/s10710-007-9028-8. They grow as in NEAT, Stanley & Miikkulainen 2002,
doi:10.1162/106365602320169811.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field, TypeAdapter
from torch import Generator

from convlens.workers.synthesizers.polynomial import polynomial

# What every node may read: x, y, the distance from the centre, and 1.
INPUTS = 4
MOST_WEIGHT = 10.0
# For each node at most, so that it is known how long a picture takes.
_WIRES = 4


class Activation(StrEnum):
    """What a node does with the weighted sum of what it reads."""

    SINE = "sine"
    SIGMOID = "sigmoid"
    GAUSSIAN = "gaussian"
    LINEAR = "linear"


class Wire(NamedTuple):
    """What one node reads of another; inputs count from 0, nodes after them."""

    source: int
    sink: int
    weight: Annotated[float, Field(ge=-MOST_WEIGHT, le=MOST_WEIGHT, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Genome:
    """A network: its nodes, the first of which are what it puts out, and wires without a circle."""

    nodes: tuple[Activation, ...]
    wires: tuple[Wire, ...]

    def reads(self) -> dict[int, list[tuple[int, float]]]:
        """What each node reads, with the weight, in the order in which it is summed up."""
        found: dict[int, list[tuple[int, float]]] = {
            node: [] for node in range(INPUTS, INPUTS + len(self.nodes))
        }
        for source, sink, weight in self.wires:
            found[sink].append((source, weight))
        return found

    def levels(self) -> list[list[int]]:
        """Its nodes in the order of what they read; those of a level do not read each other.

        Raises CycleError where there is none.
        """
        sorter = TopologicalSorter(
            {
                node: [source for source, _ in wires if source >= INPUTS]
                for node, wires in self.reads().items()
            }
        )
        sorter.prepare()
        levels: list[list[int]] = []
        while sorter.is_active():
            levels.append(sorted(sorter.get_ready()))
            sorter.done(*levels[-1])
        return levels

    def is_sound(self, outputs: int, most_nodes: int) -> bool:
        """Whether it can be drawn, and is no larger than genomes become."""
        count, ends = len(self.nodes), {wire[:2] for wire in self.wires}
        if not outputs <= count <= most_nodes or len(self.wires) > _WIRES * count:
            return False
        if len(ends) < len(self.wires) or not all(
            0 <= source < INPUTS + count and INPUTS <= sink < INPUTS + count
            for source, sink in ends
        ):
            return False
        try:
            self.levels()
        except CycleError:
            return False
        return True


# Reads and writes genomes as JSON.
GENOMES = TypeAdapter(list[Genome])


def random_genome(outputs: int, generator: Generator) -> Genome:
    """Outputs that read every input, each in a way of its own."""
    wires = [
        Wire(source, INPUTS + output, _weight(generator))
        for output in range(outputs)
        for source in range(INPUTS)
    ]
    kinds = [_activation(generator) for _ in range(outputs)]
    return Genome(tuple(kinds), tuple(wires))


def mutated(genome: Genome, most_nodes: int, generator: Generator) -> Genome:
    """A genome like the given one: other weights, and by chance a node, a wire or an activation."""
    chances = cast("list[float]", torch.rand(3, generator=generator).tolist())
    genome = _with_weights(genome, generator)
    if chances[0] < _NODE and len(genome.nodes) < most_nodes:
        genome = _with_node(genome, generator)
    if chances[1] < _WIRE and len(genome.wires) < _WIRES * len(genome.nodes):
        genome = _with_wire(genome, generator)
    if chances[2] < _ACTIVATION:
        genome = _with_activation(genome, generator)
    return genome


def _with_weights(genome: Genome, generator: Generator) -> Genome:
    old = torch.tensor([wire.weight for wire in genome.wires], dtype=torch.float64)
    chosen = torch.rand(old.shape, generator=generator) < _WEIGHT
    change = 2 * MOST_WEIGHT * polynomial(old, _WEIGHT_INDEX, generator)
    new = (old + change * chosen).clamp_(-MOST_WEIGHT, MOST_WEIGHT)
    weights = cast("list[float]", new.tolist())
    wires = [Wire(*wire[:2], weight) for wire, weight in zip(genome.wires, weights, strict=True)]
    return replace(genome, wires=tuple(wires))


def _with_node(genome: Genome, generator: Generator) -> Genome:
    """With a node in the middle of a wire."""
    split = _below(len(genome.wires), generator)
    source, sink, weight = genome.wires[split]
    node = INPUTS + len(genome.nodes)
    halves = Wire(source, node, 1.0), Wire(node, sink, weight)
    wires = (*genome.wires[:split], *genome.wires[split + 1 :], *halves)
    return Genome((*genome.nodes, _activation(generator)), wires)


def _with_wire(genome: Genome, generator: Generator) -> Genome:
    """With a wire more, which closes no circle; as it is where there is none to a node."""
    sink = INPUTS + _below(len(genome.nodes), generator)
    taken = {wire.source for wire in genome.wires if wire.sink == sink}
    taken |= _readers(genome, sink)
    free = [end for end in range(INPUTS + len(genome.nodes)) if end not in taken]
    if not free:
        return genome
    source = free[_below(len(free), generator)]
    return replace(genome, wires=(*genome.wires, Wire(source, sink, _weight(generator))))


def _with_activation(genome: Genome, generator: Generator) -> Genome:
    at = _below(len(genome.nodes), generator)
    nodes = (*genome.nodes[:at], _activation(generator), *genome.nodes[at + 1 :])
    return replace(genome, nodes=nodes)


def _readers(genome: Genome, node: int) -> set[int]:
    """A node, and all that depend on it."""
    found, new = {node}, [node]
    while new:
        at = new.pop()
        next_ = {wire.sink for wire in genome.wires if wire.source == at} - found
        found |= next_
        new += next_
    return found


def _activation(generator: Generator) -> Activation:
    return _ACTIVATIONS[_below(len(_ACTIVATIONS), generator)]


def _weight(generator: Generator) -> float:
    """That of a new wire."""
    return float(torch.empty((), dtype=torch.float64).uniform_(-_NEW, _NEW, generator=generator))


def _below(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


_ACTIVATIONS: Sequence[Activation] = tuple(Activation)
# How often offspring gets another one of each; of weights, how many of them.
_NODE, _WIRE, _ACTIVATION, _WEIGHT = 0.5, 0.5, 0.2, 0.3
# That of a new wire at most.
_NEW = 6.0
_WEIGHT_INDEX = 15.0
