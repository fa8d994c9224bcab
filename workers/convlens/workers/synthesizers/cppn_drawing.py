"""Draws what pattern-producing networks are the genomes of."""

from collections.abc import Sequence

import torch
from torch import Tensor

from convlens.workers.synthesizers.cppn import INPUTS, Genome
from convlens.workers.synthesizers.cppn_activations import activate
from convlens.workers.synthesizers.cppn_together import draw_together


def inputs_of(like: Tensor) -> Tensor:
    """x and y in [-1, 1], the distance from the centre, and 1, at each pixel of `like`.

    [inputs, height, width], of a picture [channels, height, width].
    """
    height, width = like.shape[-2:]
    across, down = (
        ((torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * 2 / size - 1)
        for size in (width, height)
    )
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y, (x * x + y * y).sqrt(), torch.ones_like(x)])


def draw(genomes: Sequence[Genome], outputs: int, inputs: Tensor) -> Tensor:
    """What the networks put out [genomes, outputs, height, width] at inputs [., height, width].

    A picture depends on its own genome alone, to the bit. So on a CPU, where the place of a number
    among others may decide its last bit, each is drawn by itself; on a GPU, whose time goes into
    being asked, all at a time.
    """
    flat = inputs.flatten(1)
    if inputs.device.type == "cpu":
        drawn = torch.stack([_draw(genome, outputs, flat) for genome in genomes])
    else:
        nodes = sum(len(genome.nodes) for genome in genomes)
        drawn = torch.cat(
            [draw_together(genomes, outputs, part) for part in _parts(flat, nodes)], -1
        )
    return drawn.view(len(genomes), outputs, *inputs.shape[1:])


def _draw(genome: Genome, outputs: int, inputs: Tensor) -> Tensor:
    """One picture [outputs, pixels] at inputs [inputs, pixels]."""
    parts = _parts(inputs, len(genome.nodes))
    return torch.cat([_values(genome, part)[INPUTS : INPUTS + outputs] for part in parts], -1)


def _parts(inputs: Tensor, nodes: int) -> Sequence[Tensor]:
    """Inputs [inputs, pixels] in parts whose values are not too many at a time."""
    return torch.split(inputs, max(1, _MOST_NUMBERS // nodes), 1)


def _values(genome: Genome, inputs: Tensor) -> Tensor:
    """What every node is [inputs and nodes, pixels] at inputs [inputs, pixels]."""
    values = inputs.new_zeros(INPUTS + len(genome.nodes), inputs.shape[1])
    values[:INPUTS] = inputs
    rows = values.unbind()
    reads = genome.reads()
    for level in genome.levels():
        for node in level:
            for source, weight in reads[node]:
                rows[node].add_(rows[source], alpha=weight)
            activate(genome.nodes[node - INPUTS], rows[node])
    return values


# That are computed at a time.
_MOST_NUMBERS = 1 << 24
