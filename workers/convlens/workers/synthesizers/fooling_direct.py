"""Fooling images by the evolution of their pixels."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Steps
from convlens.workers.synthesizers.evolution import Encoding, evolve
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.hsv import colors_of
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.polynomial import polynomial
from convlens.workers.synthesizers.task import Task


def fooling_direct(
    task: Task, targets: Sequence[int], confidence: float, p: methods.FoolingDirect
) -> Steps[Growth]:
    """Evolves 8-bit hues, saturations and values of all pixels; grey ones have a value alone.

    The first generation is uniform. Offspring changes some of the numbers by polynomial mutation,
    the fewer the later. Nguyen et al. 2014, arXiv:1412.1897, section 2: direct encoding.
    """
    return (yield from evolve(task, targets, confidence, p, Direct(task, p)))


class Direct(Encoding[Tensor]):
    """Genomes are uint8 [channels, height, width], on the CPU."""

    def __init__(self, task: Task, p: methods.FoolingDirect) -> None:
        self._task, self._p = task, p

    def random(self, generator: Generator) -> Tensor:
        return torch.randint(256, self._task.canvas, generator=generator, dtype=torch.uint8)

    def mutated(self, genome: Tensor, generation: int, generator: Generator) -> Tensor:
        rate = self._p.mutation_rate * 0.5 ** (generation // self._p.half_life)
        chosen = torch.rand(genome.shape, generator=generator) < rate
        numbers = genome[chosen].double()
        change = 255 * polynomial(numbers, self._p.mutation_index, generator)
        mutant = genome.clone()
        mutant[chosen] = (numbers + change).round_().clamp_(0, 255).byte()
        return mutant

    def drawn(self, genomes: Sequence[Tensor]) -> Tensor:
        bytes_ = torch.stack(list(genomes)).to(self._task.device)
        # 256 hues go round the circle, the first one following the last.
        numbers = bytes_.to(self._task.mean.dtype)
        if len(numbers[0]) == 3:
            numbers[:, 0] *= 255 / 256
        return colors_of(numbers / 255)

    def packed(self, genomes: Sequence[Tensor]) -> Tensor:
        return torch.cat([self._blank(0), *(genome[None] for genome in genomes)])

    def unpacked(self, memory: Memory, name: str, count: int) -> list[Tensor]:
        return list(memory.take(name, self._blank(count)))

    def _blank(self, count: int) -> Tensor:
        return torch.zeros(count, *self._task.canvas, dtype=torch.uint8)
