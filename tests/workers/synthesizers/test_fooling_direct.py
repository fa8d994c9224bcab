"""Fooling by the evolution of pixels, against Deb's formula and what it showed."""

import colorsys
from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.randomness import generator_of
from convlens.workers.synthesizers.fooling_direct import Direct, fooling_direct
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.hsv import colors_of
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.polynomial import polynomial
from convlens.workers.synthesizers.task import Task
from tests.workers.synthesizers.fooled import (
    CLASSES,
    Watched,
    filled,
    grown,
    network,
    same_growth,
    task,
)

TARGETS = [3, 0, 1]
OFFSPRING = 6


def settings(generations: int, **others: Any) -> methods.FoolingDirect:
    evaluations = generations * OFFSPRING
    return filled(methods.FoolingDirect(evaluations=evaluations, offspring=OFFSPRING, **others))


def fooled(generations: int, given: Task | None = None, confidence: float = 1.0) -> Growth:
    steps = fooling_direct(given or task(), TARGETS, confidence, settings(generations))
    return grown(network((given or task()).canvas[0]), steps)


@pytest.mark.parametrize("index", [0.0, 2.0, 15.0])
def test_polynomial_mutation_has_debs_distribution(index: float) -> None:
    """Kolmogorov and Smirnov's distance from the integral of (index + 1) (1 - |d|)^index / 2."""
    count = 40_000
    drawn = polynomial(torch.empty(count), index, generator_of(1)).sort().values
    tail = 0.5 * (1 - drawn.abs()).pow(index + 1)
    expected = torch.where(drawn < 0, tail, 1 - tail)
    seen = (torch.arange(count) + 0.5) / count
    assert (seen - expected).abs().max() < 1.6 / count**0.5
    assert drawn[0] < 0 < drawn[-1]
    assert drawn.abs().max() <= 1


def test_mutants_differ_in_the_share_that_is_asked_for_and_by_debs_formula() -> None:
    direct = Direct(task(canvas=64), settings(1, mutation_rate=0.1, half_life=10))
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    for generation, rate in ((0, 0.1), (9, 0.1), (10, 0.05), (35, 0.0125)):
        mutant = direct.mutated(grey, generation, generator_of(generation))
        change = (mutant.double() - 128)[mutant != 128]
        # One change in about thirty is less than half of a number.
        assert len(change) / grey.numel() == pytest.approx(rate, rel=0.25)
        # The mean of |d| is 1 / (index + 2).
        assert float(change.abs().mean()) == pytest.approx(255 / 17, rel=0.2)


def test_mutants_end_at_black_and_white() -> None:
    direct = Direct(task(canvas=64), settings(1, mutation_rate=1, mutation_index=0))
    for number in (0, 255):
        genome = torch.full((3, 64, 64), number, dtype=torch.uint8)
        mutant = direct.mutated(genome, 0, generator_of(0))
        # Half of the changes lead away from the range.
        assert 0.4 < float((mutant == number).double().mean()) < 0.6


def test_colours_are_those_of_the_standard_library() -> None:
    values = torch.rand(3, 5, 7, generator=generator_of(0), dtype=torch.float64)
    values[:, 0, 0] = torch.tensor([1.0, 1.0, 1.0])
    found = colors_of(values)
    for row in range(5):
        for column in range(7):
            hue, saturation, value = values[:, row, column].tolist()
            expected = torch.tensor(colorsys.hsv_to_rgb(hue, saturation, value)).double()
            assert torch.equal(found[:, row, column], (expected * 255).round() / 255)


def test_a_grey_picture_is_its_values() -> None:
    values = torch.tensor([[[0.0, 0.5, 1.0]]], dtype=torch.float64)
    assert torch.equal(
        colors_of(values), torch.tensor([[[0.0, 128 / 255, 1.0]]], dtype=torch.float64)
    )


@pytest.mark.parametrize(("channels", "canvas"), [(3, 12), (1, 12), (3, 9)])
def test_the_archive_is_the_best_of_all_that_was_ever_shown(channels: int, canvas: int) -> None:
    given = task(channels, canvas)
    watched = Watched(fooling_direct(given, TARGETS, 1.0, settings(10)))
    growth = grown(network(channels), watched.watch())
    shown = torch.cat(watched.shown)
    assert len(shown) == 10 * OFFSPRING
    odds = network(channels)(shown).softmax(1)[:, TARGETS]
    for cell, sketch in enumerate(growth.sketches):
        best = int(odds[:, cell].argmax())
        assert sketch is not None
        assert sketch.probability == pytest.approx(float(odds[best, cell]), rel=1e-9)
        assert torch.equal(given.see(sketch.pixels), shown[best])
        assert sketch.steps == best // OFFSPRING + 1
        assert (sketch.terms, sketch.gradient_norm) == ({}, None)
    assert max(s.steps for s in growth.sketches if s) > 1, "nothing was ever replaced"


def test_what_is_shown_is_in_8_bits() -> None:
    watched = Watched(fooling_direct(task(), TARGETS, 1.0, settings(3)))
    grown(network(), watched.watch())
    bits = torch.cat(watched.shown) * 255
    assert float(bits.min()) < 5 < 250 < float(bits.max())
    assert (bits - bits.round()).abs().max() < 1e-9


def test_the_first_generation_is_uniform() -> None:
    watched = Watched(fooling_direct(task(1), TARGETS, 1.0, settings(1)))
    grown(network(1), watched.watch())
    numbers = torch.cat(watched.shown).flatten()
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(numbers.var()) == pytest.approx(1 / 12, rel=0.1)


def test_a_part_of_a_generation_is_as_in_the_whole() -> None:
    brood: Any = next(fooling_direct(task(), TARGETS, 1.0, settings(3)))
    whole: Tensor = brood.points[0:OFFSPRING]
    assert torch.equal(torch.cat([brood.points[0:1], brood.points[1:4]]), whole[:4])
    assert torch.equal(brood.points[4:OFFSPRING], whole[4:])
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("first", [1, 4])
def test_going_on_is_as_if_it_had_never_ended(first: int) -> None:
    begun = fooled(first)
    whole = fooled(10)
    assert not torch.equal(whole.state["probabilities"], begun.state["probabilities"])
    same_growth(fooled(10, task(memory=Memory(begun.state))), whole)


def test_it_tells_of_the_generations_before() -> None:
    watched = Watched(fooling_direct(task(), TARGETS, 1.0, settings(5)))
    grown(network(), watched.watch())
    begun, *others = watched.told
    for generation, told in enumerate(others, 1):
        assert told is not None
        same_growth(told, fooled(generation))
    assert begun is not None
    assert list(begun.sketches) == [None] * len(TARGETS)
    same_growth(fooled(5, task(memory=Memory(begun.state))), fooled(5))


def test_it_ends_where_every_class_is_confident() -> None:
    whole = fooled(10)
    odds = min(s.probability or 0 for s in whole.sketches if s)
    ended = fooled(10, confidence=odds)
    assert ended.step == max(s.steps for s in ended.sketches if s) <= whole.step
    assert all(sketch and sketch.confident for sketch in ended.sketches)
    assert not any(sketch and sketch.confident for sketch in whole.sketches)


def test_evaluations_that_are_no_whole_generation_are_left() -> None:
    p = settings(2)
    p.evaluations += OFFSPRING - 1
    watched = Watched(fooling_direct(task(), TARGETS, 1.0, p))
    assert grown(network(), watched.watch()).step == 2
    assert len(torch.cat(watched.shown)) == 2 * OFFSPRING


def test_another_seed_evolves_other_pictures() -> None:
    one, other = fooled(2), fooled(2, task(seed=1))
    assert not torch.equal(one.state["genomes"], other.state["genomes"])


def test_all_classes_can_be_asked_for() -> None:
    growth = grown(network(), fooling_direct(task(), range(CLASSES), 1.0, settings(2)))
    assert all(growth.sketches)
    assert len(growth.sketches) == CLASSES


def test_a_state_that_it_never_wrote_is_refused() -> None:
    state = fooled(3).state
    odds = state["probabilities"]
    wrong = [
        {"genomes": state["genomes"][1:]},
        {"genomes": state["genomes"].float()},
        {"genomes": state["genomes"][..., :-1]},
        {"probabilities": odds + 1},
        {"probabilities": odds * 0 - 0.5},
        {"probabilities": odds * 0 - 1},
        {"probabilities": odds * float("nan")},
        {"probabilities": odds[1:]},
        {"generations": state["generations"] + 3},
        {"generation": torch.tensor(-1)},
    ]
    for change in wrong:
        with pytest.raises(Failure):
            fooled(5, task(memory=Memory({**state, **change})))
    for name in state:
        with pytest.raises(Failure):
            fooled(5, task(memory=Memory({k: v for k, v in state.items() if k != name})))
