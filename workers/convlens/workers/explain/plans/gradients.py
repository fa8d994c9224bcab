"""Methods that take gradients by the pixels."""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2
from convlens.workers.explain.found import NON_NEGATIVE, SIGNED, Found, converted
from convlens.workers.explain.plans.plan import Planned, Wanted
from convlens.workers.explain.recalling import slope
from convlens.workers.explain.subject import Subject
from convlens.workers.methods.fills import filled
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.input_x_gradient import input_x_gradient
from convlens.workers.methods.integrated_gradients import (
    IntegratedGradientsResult,
    integrated_gradients,
)
from convlens.workers.methods.reductions import is_signed
from convlens.workers.methods.saliency import saliency
from convlens.workers.methods.smooth_grad import SmoothGradResult, smooth_grad
from convlens.workers.pictures import Picture, read_picture
from convlens.workers.runner import Objective, Steps

SLOPE, SCORE = "score per unit of pixel", "score"
# What one number is, by what is averaged.
SMOOTHED = {
    methods.SMOOTH_GRAD_FORM_SIGNED: SLOPE,
    methods.SMOOTH_GRAD_FORM_ABSOLUTE: SLOPE,
    methods.SMOOTH_GRAD_FORM_SQUARED: f"({SLOPE}) squared",
    methods.SMOOTH_GRAD_FORM_VARIANCE: f"({SLOPE}) squared",
}


def map_numbers(subject: Subject, reduction: int) -> int:
    """How many numbers a map over the pixels has."""
    channels, height, width = subject.shape
    kept = channels if reduction == methods.CHANNEL_REDUCTION_NONE else 1
    return height * width * kept


def pixel_map(reduction: int, quantity: str) -> Callable[[Tensor], Found]:
    """Makes of a map over the pixels what was found."""
    sign = SIGNED if is_signed(reduction) else NON_NEGATIVE
    return lambda map_: Found(map_, sign, quantity)


def plan_saliency(subject: Subject, wanted: Wanted) -> Planned:
    """Simonyan et al.'s saliency."""
    return _of_slope(subject, wanted, saliency, SLOPE)


def plan_input_x_gradient(subject: Subject, wanted: Wanted) -> Planned:
    """The gradient times the pixels."""
    return _of_slope(subject, wanted, input_x_gradient, SCORE)


def _of_slope(
    subject: Subject,
    wanted: Wanted,
    method: Callable[[Tensor, Objective, Any], Steps[Tensor]],
    quantity: str,
) -> Planned:
    """A method that needs nothing but the gradient by the pixels."""
    reduction = wanted.p.reduction
    make = pixel_map(reduction, quantity)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        return make((yield from method(picture.x, score_of(target), wanted.p)))

    return Planned(begin, map_numbers(subject, reduction), opening=slope)


def plan_smooth_grad(subject: Subject, wanted: Wanted) -> Planned:
    """SmoothGrad, with its standard error."""
    p: methods.SmoothGrad = wanted.p

    def begin(picture: Picture, target: int) -> Steps[Found]:
        steps = smooth_grad(picture.x, score_of(target), p, wanted.seed)
        return converted(steps, partial(_smooth, p), partial(_smooth, p, is_partial=True))

    return Planned(begin, map_numbers(subject, p.reduction))


def _smooth(p: methods.SmoothGrad, result: SmoothGradResult, is_partial: bool = False) -> Found:
    signed = p.form == methods.SMOOTH_GRAD_FORM_SIGNED and is_signed(p.reduction)
    error = explanation_pb2.ErrorEstimate(
        kind=explanation_pb2.ERROR_ESTIMATE_KIND_STANDARD_ERROR,
        absolute=result.standard_error,
        relative=_share(result.standard_error, float(result.map.abs().max())),
    )
    return Found(
        result.map,
        SIGNED if signed else NON_NEGATIVE,
        SMOOTHED[p.form],
        samples=result.samples,
        error=error,
        is_partial=is_partial,
    )


def plan_integrated_gradients(subject: Subject, wanted: Wanted) -> Planned:
    """Integrated Gradients, with what its attributions miss in sum."""
    p: methods.IntegratedGradients = wanted.p
    if p.steps > p.max_steps:
        words = f"is {p.steps}; must be at most max_steps, which is {p.max_steps}"
        raise invalid([Violation(field=f"{wanted.path}.steps", description=words)])
    given = _baseline_image(subject, wanted) if p.HasField("baseline_image") else None

    fill = fill_of(subject, p.baseline, p, wanted)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        baseline = given if given is not None else fill(picture)
        steps = integrated_gradients(picture.x, baseline, score_of(target), p)
        return converted(steps, partial(_integrated, p), partial(_integrated, p, is_partial=True))

    return Planned(begin, map_numbers(subject, p.reduction))


def _baseline_image(subject: Subject, wanted: Wanted) -> Tensor:
    path = f"{wanted.path}.baseline_image"
    try:
        return read_picture(wanted.p.baseline_image, subject.network, subject.limits).x
    except Failure as failure:
        reason = str(failure).rstrip(".")
        raise invalid([Violation(field=path, description=f"cannot be used: {reason}")]) from None


def fill_of(
    subject: Subject,
    fill: int,
    p: "methods.IntegratedGradients | methods.Occlusion",
    wanted: Wanted,
) -> Callable[[Picture], Tensor]:
    """Gives for a picture one like it that shows nothing, as the parameters say.

    It is the same one each time, so that what all targets ask with it is computed once.
    """
    mean = subject.network.facts.input.mean
    made: WeakKeyDictionary[Picture, Tensor] = WeakKeyDictionary()

    def of(picture: Picture) -> Tensor:
        if picture not in made:
            x = picture.x
            made[picture] = filled(x, fill, mean=mean, sigma=p.blur_sigma, seed=wanted.seed)
        return made[picture]

    return of


def _integrated(
    p: methods.IntegratedGradients, result: IntegratedGradientsResult, is_partial: bool = False
) -> Found:
    difference = abs(result.score - result.baseline_score)
    details = explanation_pb2.IntegratedGradientsDetails(
        score=result.score, baseline_score=result.baseline_score, converged=result.converged
    )
    error = explanation_pb2.ErrorEstimate(
        kind=explanation_pb2.ERROR_ESTIMATE_KIND_COMPLETENESS,
        absolute=result.error,
        relative=_share(result.error, difference),
    )
    return Found(
        result.map.to(torch.float32),
        SIGNED if is_signed(p.reduction) else NON_NEGATIVE,
        SCORE,
        samples=result.steps,
        error=error,
        details=explanation_pb2.Attribution(integrated_gradients=details),
        is_partial=is_partial,
    )


def _share(part: float, whole: float) -> float | None:
    """How much of the whole a part is; None of nothing."""
    return part / whole if whole else None
