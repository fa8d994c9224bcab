"""Fooling by the gradient, against a plain loop over the paper's objective."""

import pytest
import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.fooling_gradient import fooling_gradient
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task
from tests.workers.synthesizers.fooled import Watched, filled, grown, network, same_growth, task

TARGET = 3
# Of it there is never enough, so that all steps are taken.
UNREACHED = 0.999999999


def settings(
    steps: int, l2_weight: float = 0.01, restart_every: int = 1000
) -> methods.FoolingGradient:
    return filled(
        methods.FoolingGradient(
            steps=steps, l2_weight=l2_weight, learning_rate=0.02, restart_every=restart_every
        )
    )


def fooled(steps: int, given: Task | None = None, restart_every: int = 1000) -> Growth:
    p = settings(steps, restart_every=restart_every)
    return grown(network(), fooling_gradient(given or task(), TARGET, UNREACHED, p))


def by_the_paper(given: Task, p: methods.FoolingGradient) -> Tensor:
    """Its objective as one graph through the rounded picture, and torch's Adam."""
    module = network()
    picture = given.start(methods.CANVAS_START_NOISE).requires_grad_()
    adam = torch.optim.Adam([picture], lr=p.learning_rate)
    for _ in range(p.steps):
        adam.zero_grad()
        # Rounding has no slope; that of what is rounded is taken for it.
        shown = picture + ((picture * 255).round() / 255 - picture).detach()
        log_probability = module(given.see(shown)[None]).log_softmax(1)[0, TARGET]
        distance = (shown - given.mean).square().sum()
        (p.l2_weight * distance - log_probability).backward()
        adam.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    return (picture.detach() * 255).round() / 255


@pytest.mark.parametrize("canvas", [12, 9, 20])
def test_it_climbs_as_the_paper_says_on_a_canvas_of_any_size(canvas: int) -> None:
    given = task(canvas=canvas)
    [sketch] = fooled(15, given).sketches
    expected = by_the_paper(given, settings(15))
    assert sketch is not None
    assert sketch.pixels.shape == (3, canvas, canvas)
    moved = (expected - given.start(methods.CANVAS_START_NOISE)).abs().max()
    assert moved > 0.1
    assert (sketch.pixels - expected).abs().max() < 1e-9


def test_what_is_told_of_the_end_is_of_its_pixels() -> None:
    given = task()
    growth = fooled(15, given)
    [sketch] = growth.sketches
    assert sketch is not None
    scores = network()(given.see(sketch.pixels)[None])[0]
    log_probability = float(scores.log_softmax(0)[TARGET])
    distance = float((sketch.pixels - given.mean).square().sum())
    assert sketch.objective == pytest.approx(log_probability, rel=1e-9)
    assert sketch.probability == pytest.approx(float(scores.softmax(0)[TARGET]), rel=1e-9)
    assert sketch.terms == pytest.approx(
        {"log-probability": -log_probability, "l2": 0.01 * distance}, rel=1e-9
    )
    assert growth.step == sketch.steps == 15


def test_the_gradient_is_that_of_the_loss() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(1)))
    grown(network(), watched.watch())
    told = watched.told[-1]
    assert told is not None
    assert told.sketches[0] is not None
    start = task().start(methods.CANVAS_START_NOISE)
    picture = ((start * 255).round() / 255).requires_grad_()
    score = network()(picture[None]).log_softmax(1)[0, TARGET]
    (0.01 * (picture - task().mean).square().sum() - score).backward()
    assert picture.grad is not None
    assert told.sketches[0].gradient_norm == pytest.approx(float(picture.grad.norm()), rel=1e-9)


def test_it_ends_at_the_first_picture_that_is_confident() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, 0.9, settings(500, l2_weight=0.0001)))
    growth = grown(network(), watched.watch())
    [sketch] = growth.sketches
    assert sketch is not None
    assert sketch.confident
    assert 5 < growth.step < 500
    odds = odds_of(watched)
    assert odds[-1] >= 0.9
    assert max(odds[:-1]) < 0.9


def test_where_it_is_not_confident_it_says_so() -> None:
    [sketch] = fooled(3).sketches
    assert sketch is not None
    assert sketch.confident is False


def test_what_is_shown_is_in_8_bits_and_what_is_returned_was_shown() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(6)))
    [sketch] = grown(network(), watched.watch()).sketches
    bits = torch.cat(watched.shown) * 255
    assert (bits - bits.round()).abs().max() < 1e-9
    assert sketch is not None
    assert torch.equal(sketch.pixels, watched.shown[-1][0])


def test_pictures_stay_in_their_range() -> None:
    p = filled(methods.FoolingGradient(steps=20, learning_rate=0.5))
    [sketch] = grown(network(), fooling_gradient(task(), TARGET, UNREACHED, p)).sketches
    assert sketch is not None
    assert float(sketch.pixels.min()) == 0
    assert float(sketch.pixels.max()) == 1


def odds_of(watched: Watched) -> list[float]:
    return [float(network()(shown).softmax(1)[0, TARGET]) for shown in watched.shown]


def test_a_climb_that_is_not_done_begins_again_from_other_noise() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(10, restart_every=4)))
    grown(network(), watched.watch())
    starts = [watched.shown[step] for step in (0, 4, 8)]
    for again, start in enumerate(starts):
        noise = task().start(methods.CANVAS_START_NOISE, again)
        assert torch.equal(start[0], (noise * 255).round() / 255)
    assert not torch.equal(starts[0], starts[1])


def test_a_climb_from_other_noise_is_one_of_its_own() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(10, restart_every=5)))
    grown(network(), watched.watch())
    given = task()
    picture = given.start(methods.CANVAS_START_NOISE, 1).requires_grad_()
    adam = torch.optim.Adam([picture], lr=0.02)
    for shown in watched.shown[5:10]:
        bits = (picture * 255).round() / 255
        assert (bits - shown[0]).abs().max() < 1e-9
        seen = picture + (bits - picture).detach()
        log_probability = network()(given.see(seen)[None]).log_softmax(1)[0, TARGET]
        adam.zero_grad()
        (0.01 * (seen - given.mean).square().sum() - log_probability).backward()
        adam.step()
        with torch.no_grad():
            picture.clamp_(0, 1)


def test_the_surest_end_of_all_climbs_is_returned() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(13, restart_every=6)))
    growth = grown(network(), watched.watch())
    [sketch] = growth.sketches
    assert sketch is not None
    odds = odds_of(watched)
    # The last climb had no time.
    assert odds[13] < max(odds[5], odds[11])
    assert sketch.probability == pytest.approx(max(odds[5], odds[11]), rel=1e-9)
    assert torch.equal(sketch.pixels, watched.shown[sketch.steps][0])
    assert (growth.step, sketch.confident) == (13, False)
    told = watched.told[12]
    assert told is not None
    assert told.sketches[0] is not None
    assert torch.equal(told.sketches[0].pixels, sketch.pixels)


def test_what_begins_again_needs_no_gradient() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(7, restart_every=3)))
    grown(network(), watched.watch())
    by = [bool(wanted.by) for wanted in watched.passes]
    assert by == [True, True, False, True, True, False, True, False]


@pytest.mark.parametrize("restart_every", [1000, 6, 1])
@pytest.mark.parametrize("first", [0, 1, 8])
def test_going_on_is_as_if_it_had_never_ended(first: int, restart_every: int) -> None:
    begun = fooled(first, restart_every=restart_every)
    resumed = fooled(20, task(memory=Memory(begun.state)), restart_every)
    whole = fooled(20, restart_every=restart_every)
    assert not torch.equal(whole.state["pixels"], begun.state["pixels"])
    same_growth(resumed, whole)


def test_it_goes_on_from_what_it_told_on_the_way() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(12)))
    whole = grown(network(), watched.watch())
    assert watched.told[0] is None
    for step, told in enumerate(watched.told[1:], 1):
        assert told is not None
        assert told.step == step
        assert told.sketches[0] is not None
        assert torch.equal(told.sketches[0].pixels, watched.shown[step][0])
    told = watched.told[5]
    assert told is not None
    same_growth(fooled(12, task(memory=Memory(told.state))), whole)


def test_it_goes_on_from_what_it_told_between_two_climbs() -> None:
    watched = Watched(fooling_gradient(task(), TARGET, UNREACHED, settings(12, restart_every=4)))
    whole = grown(network(), watched.watch())
    for told in watched.told[1:]:
        assert told is not None
        same_growth(fooled(12, task(memory=Memory(told.state)), 4), whole)


def told(step: float, value: float, probability: float) -> Tensor:
    return torch.tensor([step, value, probability], dtype=torch.float64)


# After three steps.
UNTOLD = [(3, -1, 0.5), (1e300, -1, 0.5), (0.5, -1, 0.5), (-2, -1, 0.5), (1, 1, 0.5), (1, -1, 1.5)]


def test_a_state_that_it_never_wrote_is_refused() -> None:
    state = fooled(3).state
    wrong = [
        {"pixels": state["pixels"] + 1},
        {"pixels": state["pixels"][:, :-1]},
        {"pixels": state["pixels"].float()},
        {"mean": state["mean"] * float("nan")},
        {"mean": state["mean"] + 10},
        {"square": -state["square"]},
        {"step": torch.tensor(-1)},
        {"step": torch.tensor(3.0)},
        {"best": state["best"] + 1},
        {"best_told": state["best_told"] * float("nan")},
        {"best_told": state["best_told"][:2]},
        *({"best_told": told(*each)} for each in UNTOLD),
    ]
    for change in wrong:
        with pytest.raises(Failure):
            fooled(5, task(memory=Memory({**state, **change})))
    for name in state:
        with pytest.raises(Failure):
            fooled(5, task(memory=Memory({k: v for k, v in state.items() if k != name})))
