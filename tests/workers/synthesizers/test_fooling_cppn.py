"""Fooling by the evolution of patterns."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.cppn import GENOMES
from convlens.workers.synthesizers.cppn_drawing import draw, inputs_of
from convlens.workers.synthesizers.fooling_cppn import fooling_cppn
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.hsv import colors_of
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task
from tests.workers.synthesizers.fooled import Watched, filled, grown, network, same_growth, task

TARGETS = [3, 0, 1]
OFFSPRING = 6


def settings(generations: int) -> methods.FoolingCppn:
    evaluations = generations * OFFSPRING
    return filled(methods.FoolingCppn(evaluations=evaluations, offspring=OFFSPRING, max_nodes=12))


def fooled(generations: int, given: Task | None = None) -> Growth:
    given = given or task()
    steps = fooling_cppn(given, TARGETS, 1.0, settings(generations))
    return grown(network(given.canvas[0]), steps)


def test_pictures_are_what_their_genomes_draw() -> None:
    growth = fooled(5)
    genomes = GENOMES.validate_json(written(growth.state["genomes"]))
    values = draw(genomes, 3, inputs_of(task().blank()))
    for sketch, value in zip(growth.sketches, values, strict=True):
        assert sketch is not None
        hue, saturation, brightness = value.abs()
        seen = torch.stack([hue % 1, saturation.clamp(max=1), brightness.clamp(max=1)])
        assert torch.equal(sketch.pixels, colors_of(seen))


@pytest.mark.parametrize(("channels", "canvas"), [(3, 12), (1, 12), (3, 20)])
def test_the_archive_is_the_best_of_all_that_was_ever_shown(channels: int, canvas: int) -> None:
    given = task(channels, canvas)
    watched = Watched(fooling_cppn(given, TARGETS, 1.0, settings(12)))
    growth = grown(network(channels), watched.watch())
    shown = torch.cat(watched.shown)
    odds = network(channels)(shown).softmax(1)[:, TARGETS]
    for cell, sketch in enumerate(growth.sketches):
        best = int(odds[:, cell].argmax())
        assert sketch is not None
        assert sketch.probability == pytest.approx(float(odds[best, cell]), rel=1e-9)
        assert torch.equal(given.see(sketch.pixels), shown[best])
        assert sketch.steps == best // OFFSPRING + 1
    assert max(s.steps for s in growth.sketches if s) > 1, "nothing was ever replaced"


@pytest.mark.parametrize("first", [1, 4])
def test_going_on_is_as_if_it_had_never_ended(first: int) -> None:
    begun = fooled(first)
    whole = fooled(10)
    assert not torch.equal(whole.state["probabilities"], begun.state["probabilities"])
    same_growth(fooled(10, task(memory=Memory(begun.state))), whole)


def written(state: Tensor) -> bytes:
    return state.numpy().tobytes()


def one_is(**changes: Any) -> bytes:
    """Three genomes, of which the second one is wrong somewhere."""
    genomes = json.loads(written(fooled(3).state["genomes"]))
    genomes[1] |= changes
    return json.dumps(genomes).encode()


def with_wire(source: object, sink: object, weight: object) -> bytes:
    genomes = json.loads(written(fooled(3).state["genomes"]))
    return one_is(wires=[*genomes[1]["wires"][1:], [source, sink, weight]])


def taken(genomes: bytes) -> Growth:
    """What comes of going on from genomes."""
    state = {**fooled(3).state, "genomes": torch.tensor(list(genomes), dtype=torch.uint8)}
    return fooled(4, task(memory=Memory(state)))


def test_a_state_that_was_written_anew_is_taken() -> None:
    """So that the refusals below are for what is wrong."""
    assert taken(one_is()).step == 4
    assert taken(one_is(wires=[[0, 4, 1.5]])).step == 4


SINE = "sine"
WRONG = {
    "no JSON": lambda: b"?",
    "no text": lambda: b"\xff\xfe",
    "nothing": lambda: b"",
    "nested without end": lambda: b"[" * 5_000,
    "another number of genomes": lambda: b"[]",
    "no genomes": lambda: b"[1, 2, 3]",
    "no nodes": lambda: one_is(nodes=[]),
    "too many nodes": lambda: one_is(nodes=[SINE] * 13),
    "an unknown activation": lambda: one_is(nodes=[SINE, SINE, "cosine"], wires=[]),
    "no activation": lambda: one_is(nodes=[SINE, SINE, 1], wires=[]),
    "an endless weight": lambda: with_wire(0, 4, float("inf")),
    "a weight that is no number": lambda: with_wire(0, 4, float("nan")),
    "a large weight": lambda: with_wire(0, 4, 1e30),
    "a weight in words": lambda: with_wire(0, 4, "1"),
    "half a source": lambda: with_wire(0.5, 4, 1.0),
    "a source below": lambda: with_wire(-1, 4, 1.0),
    "a source above": lambda: with_wire(400, 4, 1.0),
    "an input as sink": lambda: with_wire(0, 3, 1.0),
    "a sink above": lambda: with_wire(0, 10**30, 1.0),
    "a circle": lambda: one_is(wires=[[4, 5, 1.0], [5, 4, 1.0]]),
    "the same wire twice": lambda: one_is(wires=[[0, 4, 1.0], [0, 4, 2.0]]),
    "too many wires": lambda: one_is(wires=[[0, 4, 1.0]] * 500),
    "too many bytes": lambda: one_is() + b" " * 50_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_a_genome_that_it_never_wrote_is_refused(what: str) -> None:
    with pytest.raises(Failure, match="checkpoint"):
        taken(WRONG[what]())


def test_a_state_of_something_else_is_refused() -> None:
    state = fooled(3).state
    for change in (
        {"genomes": state["genomes"].float()},
        {"genomes": state["genomes"][None]},
        {"probabilities": state["probabilities"] * 0 - 1},
        {"generations": state["generations"] + 4},
    ):
        with pytest.raises(Failure):
            fooled(4, task(memory=Memory({**state, **change})))
    with pytest.raises(Failure):
        fooled(4, task(memory=Memory({k: v for k, v in state.items() if k != "genomes"})))
