"""Fooling images by the evolution of pattern-producing networks."""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Steps
from convlens.workers.synthesizers.cppn import GENOMES, Genome, mutated, random_genome
from convlens.workers.synthesizers.cppn_drawing import draw, inputs_of
from convlens.workers.synthesizers.evolution import Encoding, evolve
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.hsv import colors_of
from convlens.workers.synthesizers.memory import Memory, broken
from convlens.workers.synthesizers.task import Task


def fooling_cppn(
    task: Task, targets: Sequence[int], confidence: float, p: methods.FoolingCppn
) -> Steps[Growth]:
    """Evolves small networks whose outputs at x and y are the hue, saturation and value there.

    A grey picture has a value alone. Nguyen et al. 2014, arXiv:1412.1897, section 2: indirect
    encoding.
    """
    patterns = _Patterns(task, p, _bins(p, len(targets)))
    return (yield from evolve(task, targets, confidence, p, patterns))


def check_archive(p: methods.FoolingCppn, classes: int, limit: int, path: str) -> None:
    """Raises Failure INVALID_REQUEST where the genomes of so many classes may exceed `limit` bytes.

    `path` names the parameters in the request.
    """
    bins = _bins(p, classes)
    most = _GENOME_BYTES + classes * bins**2 * p.max_nodes * _NODE_BYTES
    if most > limit:
        words = (
            f"are {bins}: with {classes} classes and max_nodes {p.max_nodes} a checkpoint may take "
            f"{most >> 20} MiB; at most {limit >> 20} MiB are allowed, so ask for fewer bins, "
            "nodes or targets"
        )
        raise invalid([Violation(field=f"{path}.look_bins", description=words)])


def _bins(p: methods.FoolingCppn, classes: int) -> int:
    return p.look_bins or (_BINS if classes <= _FEW_CLASSES else 1)


class _Patterns(Encoding[Genome]):
    def __init__(self, task: Task, p: methods.FoolingCppn, bins: int) -> None:
        self._outputs, self._most_nodes = task.canvas[0], p.max_nodes
        self.bins = bins
        self._inputs = inputs_of(task.blank())

    def random(self, generator: Generator) -> Genome:
        return random_genome(self._outputs, generator)

    def mutated(self, genome: Genome, generation: int, generator: Generator) -> Genome:
        return mutated(genome, self._most_nodes, generator)

    def drawn(self, genomes: Sequence[Genome]) -> Tensor:
        values = draw(genomes, self._outputs, self._inputs)
        if self._outputs == 3:
            # Hues go round.
            values[:, 0] = values[:, 0].frac()
        return colors_of(values.abs_().clamp_(0, 1))

    def packed(self, genomes: Sequence[Genome]) -> Tensor:
        return torch.from_numpy(np.frombuffer(GENOMES.dump_json(list(genomes)), np.uint8).copy())

    def unpacked(self, memory: Memory, name: str, count: int) -> list[Genome]:
        text = memory.bytes(name, _GENOME_BYTES + count * self._most_nodes * _NODE_BYTES)
        try:
            genomes = GENOMES.validate_json(text, strict=True)
        except ValidationError:
            raise broken() from None
        if len(genomes) != count or not all(
            genome.is_sound(self._outputs, self._most_nodes) for genome in genomes
        ):
            raise broken()
        return genomes


# Few classes are no variety of parents by themselves.
_BINS, _FEW_CLASSES = 4, 64
# More than a node takes with its wires, and than an empty genome.
_NODE_BYTES, _GENOME_BYTES = 256, 1024
