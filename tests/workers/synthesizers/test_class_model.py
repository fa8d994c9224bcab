"""Class models against Adam's ascent as the paper has it, in one loop."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers import Memory, Task
from convlens.workers.synthesizers.class_model import class_model
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.parametrization import check_priors, form_of
from convlens.workers.synthesizers.transforms import moved
from tests.workers.synthesizers.fooled import Watched, filled, grown, network, same_growth, task

TARGET = 2
FOURIER = methods.PARAMETRIZATION_FOURIER
MOVES: dict[str, Any] = {"padding": 1, "jitter": 2, "scale": 0.1, "rotation": 10}
PRIORS: dict[str, dict[str, Any]] = {
    "none": {},
    "variation": {"total_variation": 0.02},
    "moves": MOVES,
    "fourier": {"parametrization": FOURIER},
    "all": MOVES
    | {"total_variation": 0.02, "parametrization": FOURIER, "decorrelate_colors": True},
}


def parameters(priors: dict[str, Any] | None = None, **given: Any) -> methods.ClassModel:
    given = {"steps": 12, "l2_weight": 0.05} | given
    return filled(methods.ClassModel(priors=methods.Priors(**(priors or {})), **given))


def by_the_paper(module: Any, work: Task, p: methods.ClassModel) -> tuple[Tensor, float]:
    """The picture, and the loss at it: one graph from the parameters to the loss."""
    form = form_of(work, p.priors)
    numbers = form.start(p.start).requires_grad_()
    adam = torch.optim.Adam([numbers], lr=p.learning_rate)

    def loss_of(pixels: Tensor, seen: Tensor) -> Tensor:
        score = module(work.see(seen)[None])[0, TARGET]
        loss = p.l2_weight * (pixels - work.mean).pow(2).sum() - score
        if p.priors.total_variation:
            right = torch.cat([pixels[:, :, 1:], pixels[:, :, -1:]], 2) - pixels
            below = torch.cat([pixels[:, 1:], pixels[:, -1:]], 1) - pixels
            squares = right**2 + below**2
            loss = loss + p.priors.total_variation * squares[squares > 0].sqrt().sum()
        return loss

    for step in range(p.steps):
        pixels = form.pixels(numbers)
        adam.zero_grad()
        loss_of(pixels, moved(work, p.priors, pixels, step)).backward()
        adam.step()
        if p.priors.parametrization != FOURIER:
            numbers.data.clamp_(0, 1)
    pixels = form.pixels(numbers).detach()
    return pixels, float(loss_of(pixels, pixels))


def only(growth: Growth) -> Sketch:
    [sketch] = growth.sketches
    assert sketch
    return sketch


@pytest.mark.parametrize("canvas", [12, 17])
@pytest.mark.parametrize("start", [methods.CANVAS_START_MEAN, methods.CANVAS_START_NOISE])
@pytest.mark.parametrize("priors", PRIORS)
def test_it_is_adams_ascent(priors: str, start: Any, canvas: int) -> None:
    module, work = network(), task(canvas=canvas, seed=4)
    p = parameters(PRIORS[priors], start=start)
    expected, loss = by_the_paper(module, work, p)
    assert (expected - work.blank()).abs().max() > 0.02, "it has not moved"
    sketch = only(grown(module, class_model(work, TARGET, p)))
    assert (sketch.pixels - expected).abs().max() < 1e-9
    assert sum(sketch.terms.values()) == pytest.approx(loss, rel=1e-9)
    scores = module(work.see(expected)[None])[0]
    assert sketch.objective == pytest.approx(float(scores[TARGET]), rel=1e-9)
    assert sketch.terms["score"] == -sketch.objective
    assert sketch.probability == pytest.approx(float(scores.softmax(0)[TARGET]), rel=1e-9)
    assert sketch.steps == 12 and sketch.activation is None


def test_black_is_where_it_may_start() -> None:
    p = parameters(start=methods.CANVAS_START_BLACK)
    expected, _ = by_the_paper(network(), task(), p)
    found = only(grown(network(), class_model(task(), TARGET, p))).pixels
    assert (found - expected).abs().max() < 1e-9 and found.min() == 0


@pytest.mark.parametrize("priors", PRIORS)
def test_the_score_rises_and_pixels_stay_pixels(priors: str) -> None:
    module = network()
    p = parameters(PRIORS[priors], steps=40, l2_weight=0.001)
    sketch = only(grown(module, class_model(task(), TARGET, p)))
    before = float(module(task().blank()[None])[0, TARGET])
    assert sketch.objective > before + 0.01
    assert sketch.pixels.min() >= 0 and sketch.pixels.max() <= 1


def test_a_larger_weight_keeps_it_nearer_to_the_mean() -> None:
    distances = [
        float((only(growth).pixels - task().mean).square().sum())
        for weight in (0.0, 0.05, 5.0)
        for growth in [grown(network(), class_model(task(), TARGET, parameters(l2_weight=weight)))]
    ]
    assert distances[0] > 1.2 * distances[1] > 1.2 * 1.2 * distances[2]


def test_what_it_tells_is_of_before_the_answer() -> None:
    module, p = network(), parameters(PRIORS["variation"], steps=5)
    watched = Watched(class_model(task(), TARGET, p))
    last = grown(module, watched.watch())
    told = watched.told
    assert told[0] is None, "nothing is known before the first answer"
    for step, growth in enumerate(told[1:], 1):
        assert growth
        sketch = only(growth)
        assert (growth.step, sketch.steps, int(growth.state["step"])) == (step, step, step)
        assert torch.equal(sketch.pixels, watched.shown[step][0])
        seen = module(watched.shown[step - 1])[0, TARGET]
        assert sketch.objective == pytest.approx(float(seen), rel=1e-12)
    assert sorted(only(last).terms) == ["l2", "score", "total variation"]
    assert only(last).gradient_norm == only(told[-1] or last).gradient_norm


def test_the_length_of_the_gradient_is_that_by_the_pixels() -> None:
    module, p = network(), parameters(PRIORS["fourier"], steps=1)
    pixels = form_of(task(), p.priors).pixels(form_of(task(), p.priors).start(p.start))
    pixels.requires_grad_()
    loss = p.l2_weight * (pixels - task().mean).square().sum() - module(pixels[None])[0, TARGET]
    [gradient] = torch.autograd.grad(loss, pixels)
    found = only(grown(module, class_model(task(), TARGET, p))).gradient_norm
    assert found == pytest.approx(float(gradient.square().sum().sqrt()), rel=1e-9)


@pytest.mark.parametrize("canvas", [12, 17])
@pytest.mark.parametrize("priors", PRIORS)
def test_twenty_steps_are_eight_and_twelve(priors: str, canvas: int) -> None:
    module, work = network(), task(canvas=canvas, seed=4)
    whole = grown(module, class_model(work, TARGET, parameters(PRIORS[priors], steps=20)))
    part = grown(module, class_model(work, TARGET, parameters(PRIORS[priors], steps=8)))
    assert not torch.equal(only(part).pixels, only(whole).pixels)
    resumed = replace(work, memory=Memory(part.state))
    rest = grown(module, class_model(resumed, TARGET, parameters(PRIORS[priors], steps=20)))
    same_growth(rest, whole)


def test_an_early_picture_goes_on_from_what_was_told() -> None:
    module, p = network(), parameters(PRIORS["all"], steps=20)
    watched = Watched(class_model(task(), TARGET, p))
    whole = grown(module, watched.watch())
    early = watched.told[8]
    assert early and early.step == 8
    resumed = replace(task(), memory=Memory(early.state))
    same_growth(grown(module, class_model(resumed, TARGET, p)), whole)


def test_no_more_steps_than_were_done_leave_the_picture_as_it_was() -> None:
    module = network()
    done = grown(module, class_model(task(), TARGET, parameters(steps=8)))
    resumed = replace(task(), memory=Memory(done.state))
    again = grown(module, class_model(resumed, TARGET, parameters(steps=5)))
    assert again.step == 8 and torch.equal(only(again).pixels, only(done).pixels)


def test_it_does_not_depend_on_the_mode_of_its_caller() -> None:
    module, p = network(), parameters(PRIORS["all"])
    expected = grown(module, class_model(task(), TARGET, p))
    with torch.no_grad():
        same_growth(grown(module, class_model(task(), TARGET, p)), expected)


def tampered(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state that no run has left."""
    state = {key: value.clone() for key, value in state.items()}
    match name:
        case "a missing part":
            del state["square"]
        case "another shape":
            state["mean"] = state["mean"][:, 1:]
        case "another type":
            state["parameters"] = state["parameters"].float()
        case "not a number":
            state["mean"][0, 0] = torch.nan
        case "pixels that are none":
            state["parameters"][0, 0] = 1.5
        case "a negative square":
            state["square"][0, 0] = -1
        case "an endless step":
            state["mean"][0, 0], state["square"][0, 0] = 1e30, 0
        case _:
            state["step"].fill_(-1)
    return state


@pytest.mark.parametrize(
    "name",
    [
        *("a missing part", "another shape", "another type", "not a number"),
        *("pixels that are none", "a negative square", "an endless step", "a step before 0"),
    ],
)
def test_a_broken_memory_is_refused(name: str) -> None:
    module = network()
    state = dict(grown(module, class_model(task(), TARGET, parameters(steps=3))).state)
    resumed = replace(task(), memory=Memory(tampered(name, state)))
    with pytest.raises(Failure, match="checkpoint"):
        grown(module, class_model(resumed, TARGET, parameters()))


def test_every_memory_that_a_run_leaves_is_taken() -> None:
    """Gradients that grow as fast as they may keep to the bound of their moments."""
    module = network()
    with torch.no_grad():
        [weight] = [each for each in module.parameters() if each.ndim == 2]
        weight *= 1e-12
    p = parameters(steps=30, l2_weight=0.0, learning_rate=0.5)
    state = grown(module, class_model(task(), TARGET, p)).state
    resumed = replace(task(), memory=Memory(state))
    assert grown(module, class_model(resumed, TARGET, parameters(steps=31))).step == 31


@pytest.mark.parametrize(
    ("priors", "channels", "words"),
    [
        ({"decorrelate_colors": True}, 3, "unless parametrization is PARAMETRIZATION_FOURIER"),
        ({"decorrelate_colors": True, "parametrization": FOURIER}, 1, "of 1 channels"),
    ],
)
def test_priors_that_do_not_fit_are_refused(
    priors: dict[str, Any], channels: int, words: str
) -> None:
    given = parameters(priors).priors
    with pytest.raises(Failure) as refused:
        check_priors(given, channels, "method.class_model.priors")
    [violation] = refused.value.violations
    assert violation.field == "method.class_model.priors.decorrelate_colors"
    assert words in violation.description


def test_priors_that_fit_are_not_refused() -> None:
    check_priors(parameters(PRIORS["all"]).priors, 3, "priors")
    check_priors(parameters(PRIORS["fourier"]).priors, 1, "priors")
    check_priors(parameters().priors, 1, "priors")


def test_a_network_of_one_channel_has_class_models_too() -> None:
    module, work = network(channels=1), task(channels=1)
    p = parameters(PRIORS["fourier"] | MOVES)
    expected, _ = by_the_paper(module, work, p)
    assert (only(grown(module, class_model(work, TARGET, p))).pixels - expected).abs().max() < 1e-9
