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
from convlens.workers.synthesizers.fooling_cppn import check_archive, fooling_cppn
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.hsv import colors_of
from convlens.workers.synthesizers.looks import looks_of
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task
from tests.workers.synthesizers.fooled import Watched, filled, grown, network, same_growth, task

TARGETS = [3, 0, 1]
OFFSPRING = 6


def settings(generations: int, bins: int = 2) -> methods.FoolingCppn:
    return filled(
        methods.FoolingCppn(
            evaluations=generations * OFFSPRING,
            offspring=OFFSPRING,
            max_nodes=12,
            look_bins=bins,
        )
    )


def fooled(generations: int, given: Task | None = None, bins: int = 2) -> Growth:
    given = given or task()
    steps = fooling_cppn(given, TARGETS, 1.0, settings(generations, bins))
    return grown(network(given.canvas[0]), steps)


def test_pictures_are_what_their_genomes_draw() -> None:
    growth = fooled(5)
    genomes = GENOMES.validate_json(written(growth.state["genomes"]))
    odds, positions = growth.state["probabilities"], growth.state["cells"][:, 0]
    assert len(genomes) > len(TARGETS)
    for position, sketch in enumerate(growth.sketches):
        best = int(odds.where(positions == position, -1).argmax())
        [value] = draw([genomes[best]], 3, inputs_of(task().blank()))
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


@pytest.mark.parametrize("bins", [1, 4])
@pytest.mark.parametrize("first", [1, 4])
def test_going_on_is_as_if_it_had_never_ended(first: int, bins: int) -> None:
    begun = fooled(first, bins=bins)
    whole = fooled(10, bins=bins)
    assert not torch.equal(whole.state["probabilities"], begun.state["probabilities"])
    same_growth(fooled(10, task(memory=Memory(begun.state)), bins), whole)


def test_the_archive_has_the_best_of_each_look() -> None:
    watched = Watched(fooling_cppn(task(), TARGETS, 1.0, settings(12, 3)))
    state = grown(network(), watched.watch()).state
    shown = torch.cat(watched.shown)
    odds, looks = network()(shown).softmax(1)[:, TARGETS], torch.tensor(looks_of(shown, 3))
    cells = [(int(position), int(look)) for position, look in state["cells"]]
    assert cells == [(c, look) for c in range(3) for look in sorted(set(looks.tolist()))]
    assert len(set(looks.tolist())) > 2
    for (position, look), probability in zip(cells, state["probabilities"], strict=True):
        best = odds[looks == look, position].max()
        assert float(probability) == pytest.approx(float(best), rel=1e-9)


def test_few_classes_have_many_looks_and_many_one() -> None:
    p = filled(methods.FoolingCppn(evaluations=200, offspring=20))
    state = grown(network(), fooling_cppn(task(), TARGETS, 1.0, p)).state
    assert len(state["cells"]) > 2 * len(TARGETS)
    # Classes may be asked for again and again.
    many = [0] * 65
    state = grown(network(), fooling_cppn(task(), many, 1.0, p)).state
    assert len(state["cells"]) == len(many)


def test_an_archive_that_no_checkpoint_can_hold_is_refused() -> None:
    p = filled(methods.FoolingCppn())
    check_archive(p, 1000, 48 << 20, "cppn")
    p.look_bins = 2
    with pytest.raises(Failure, match=r"cppn.look_bins are 2: with 1000 classes and max_nodes 64"):
        check_archive(p, 1000, 48 << 20, "cppn")
    p.max_nodes = 40
    check_archive(p, 1000, 48 << 20, "cppn")


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
    cells = state["cells"]
    for change in (
        {"cells": cells + torch.tensor([3, 0])},
        {"cells": cells + torch.tensor([0, 4])},
        {"cells": cells - 1},
        {"cells": cells * 0},
        {"cells": cells[:, :1]},
        {"count": state["count"] - 1},
        {"count": torch.tensor(10**12)},
        {"genomes": state["genomes"].float()},
        {"genomes": state["genomes"][None]},
        {"probabilities": state["probabilities"] * 0 - 1},
        {"generations": state["generations"] + 4},
    ):
        with pytest.raises(Failure):
            fooled(4, task(memory=Memory({**state, **change})))
    with pytest.raises(Failure):
        fooled(4, task(memory=Memory({k: v for k, v in state.items() if k != "genomes"})))
