"""Pattern-producing networks: what they draw, and what becomes of them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from convlens.workers.methods.randomness import generator_of
from convlens.workers.synthesizers import cppn_drawing
from convlens.workers.synthesizers.cppn import (
    GENOMES,
    INPUTS,
    MOST_WEIGHT,
    Activation,
    Genome,
    Wire,
    mutated,
    random_genome,
)
from convlens.workers.synthesizers.cppn_drawing import draw, inputs_of
from convlens.workers.synthesizers.cppn_together import draw_together

X, Y, DISTANCE, ONE = range(INPUTS)
FIRST, SECOND, THIRD, HIDDEN = range(INPUTS, INPUTS + 4)
OUTPUTS = 3
MOST_NODES = 24
# first = linear(2 hidden - distance), second = gaussian(y + 0.5), third = sigmoid(3 first + x),
# hidden = sine(4 x - 2 y).
BY_HAND = Genome(
    (Activation.LINEAR, Activation.GAUSSIAN, Activation.SIGMOID, Activation.SINE),
    (
        Wire(HIDDEN, FIRST, 2.0),
        Wire(DISTANCE, FIRST, -1.0),
        Wire(Y, SECOND, 1.0),
        Wire(ONE, SECOND, 0.5),
        Wire(FIRST, THIRD, 3.0),
        Wire(X, THIRD, 1.0),
        Wire(X, HIDDEN, 4.0),
        Wire(Y, HIDDEN, -2.0),
    ),
)


def inputs(height: int = 6, width: int = 9) -> Tensor:
    return inputs_of(torch.zeros(OUTPUTS, height, width, dtype=torch.float64))


def evolved(seed: int, generations: int = 40) -> Genome:
    genome = random_genome(OUTPUTS, generator_of(seed))
    for generation in range(generations):
        genome = mutated(genome, MOST_NODES, generator_of(seed, generation))
    return genome


def by_recursion(genome: Genome, node: int, given: list[float]) -> float:
    """The value of a node at one pixel, the slow way."""
    if node < INPUTS:
        return given[node]
    total = sum(
        wire.weight * by_recursion(genome, wire.source, given)
        for wire in genome.wires
        if wire.sink == node
    )
    match genome.nodes[node - INPUTS]:
        case Activation.SINE:
            return math.sin(total)
        case Activation.SIGMOID:
            return 1 / (1 + math.exp(-total))
        case Activation.GAUSSIAN:
            return math.exp(-(total**2))
        case Activation.LINEAR:
            return min(max(total, -10), 10)


def test_inputs_are_the_places_of_pixels() -> None:
    found = inputs(2, 4)
    across = torch.tensor([-0.75, -0.25, 0.25, 0.75]).double().expand(2, 4)
    down = torch.tensor([[-0.5], [0.5]]).double().expand(2, 4)
    assert torch.equal(found[X], across)
    assert torch.equal(found[Y], down)
    assert torch.equal(found[DISTANCE], (across**2 + down**2).sqrt())
    assert torch.equal(found[ONE], torch.ones(2, 4).double())


def test_a_genome_by_hand_draws_its_formula() -> None:
    x, y, distance, _ = inputs()
    first = 2 * torch.sin(4 * x - 2 * y) - distance
    expected = [first, torch.exp(-((y + 0.5) ** 2)), torch.sigmoid(3 * first + x)]
    [found] = draw([BY_HAND], OUTPUTS, inputs())
    assert (found - torch.stack(expected)).abs().max() < 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_evolved_genomes_draw_what_their_nodes_say(seed: int) -> None:
    genome = evolved(seed)
    assert len(genome.nodes) > OUTPUTS + 2
    [found] = draw([genome], OUTPUTS, inputs(3, 4))
    for row in range(3):
        for column in range(4):
            given: list[float] = inputs(3, 4)[:, row, column].tolist()
            expected = [by_recursion(genome, INPUTS + output, given) for output in range(OUTPUTS)]
            assert found[:, row, column].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_genome_draws_the_same_picture_in_any_company(dtype: torch.dtype) -> None:
    genomes = [evolved(seed) for seed in range(6)]
    at = inputs(31, 33).to(dtype)
    together = draw(genomes, OUTPUTS, at)
    assert together.shape == (6, OUTPUTS, 31, 33)
    for genome, picture in zip(genomes, together, strict=True):
        assert torch.equal(draw([genome], OUTPUTS, at)[0], picture)
        assert picture.var() > 0
    assert torch.equal(draw(genomes[::-1], OUTPUTS, at).flip(0), together)


def test_genomes_that_are_drawn_at_a_time_draw_what_they_draw_alone() -> None:
    """As on a GPU, where it pays."""
    genomes = [BY_HAND, Genome((Activation.SINE,) * OUTPUTS, ())]
    genomes += [evolved(seed, 10 * seed) for seed in range(6)]
    together = draw_together(genomes, OUTPUTS, inputs(8, 8).flatten(1))
    alone = draw(genomes, OUTPUTS, inputs(8, 8)).flatten(2)
    assert (together - alone).abs().max() < 1e-12


def test_large_pictures_are_drawn_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw([BY_HAND], OUTPUTS, inputs())
    monkeypatch.setattr(cppn_drawing, "_MOST_NUMBERS", 40)
    assert (draw([BY_HAND], OUTPUTS, inputs()) - whole).abs().max() < 1e-12


def test_a_node_that_reads_nothing_is_drawn() -> None:
    genome = Genome((Activation.GAUSSIAN,), ())
    assert torch.equal(draw([genome], 1, inputs()), torch.ones(1, 1, 6, 9).double())


def test_offspring_is_sound_and_becomes_larger() -> None:
    for seed in range(20):
        genome = evolved(seed, 150)
        assert genome.is_sound(OUTPUTS, MOST_NODES)
        assert len(genome.nodes) > MOST_NODES // 2
        assert all(abs(wire.weight) <= MOST_WEIGHT for wire in genome.wires)
        assert draw([genome], OUTPUTS, inputs()).isfinite().all()


def test_mutation_changes_each_part_of_a_genome() -> None:
    parent = evolved(0, 5)
    children = [mutated(parent, MOST_NODES, generator_of("child", n)) for n in range(40)]
    assert any(len(child.nodes) > len(parent.nodes) for child in children)
    assert any(len(child.wires) == len(parent.wires) + 1 for child in children)
    same = [child for child in children if len(child.nodes) == len(parent.nodes)]
    assert any(child.nodes != parent.nodes for child in same)
    kept = [child.wires[: len(parent.wires)] for child in same]
    assert any(wires != parent.wires for wires in kept)
    for wires in kept:
        assert [wire[:2] for wire in wires] == [wire[:2] for wire in parent.wires]


def test_the_same_generator_gives_the_same_offspring() -> None:
    one, other = (mutated(evolved(0), MOST_NODES, generator_of(5)) for _ in range(2))
    assert one == other


def test_genomes_survive_being_written_to_the_last_bit() -> None:
    genomes = [evolved(seed) for seed in range(20)]
    assert GENOMES.validate_json(GENOMES.dump_json(genomes), strict=True) == genomes


def test_what_cannot_be_drawn_is_not_sound() -> None:
    assert BY_HAND.is_sound(OUTPUTS, 4)
    wires = BY_HAND.wires
    wrong = [
        replace(BY_HAND, wires=(*wires, Wire(THIRD, HIDDEN, 1.0))),
        replace(BY_HAND, wires=(*wires, Wire(HIDDEN, HIDDEN, 1.0))),
        replace(BY_HAND, wires=(*wires, wires[0])),
        replace(BY_HAND, wires=(*wires, Wire(HIDDEN + 1, FIRST, 1.0))),
        replace(BY_HAND, wires=(*wires, Wire(-1, FIRST, 1.0))),
        replace(BY_HAND, wires=(*wires, Wire(X, HIDDEN + 1, 1.0))),
        replace(BY_HAND, wires=(*wires, Wire(X, Y, 1.0))),
        replace(BY_HAND, nodes=BY_HAND.nodes[:2], wires=()),
    ]
    for genome in wrong:
        assert not genome.is_sound(OUTPUTS, 4)
    assert not BY_HAND.is_sound(OUTPUTS, 3)
