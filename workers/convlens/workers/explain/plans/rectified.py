"""Methods that let gradients through rectifiers by a rule of their own."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import geometry_pb2
from convlens.workers.explain.attributions import tensor_of
from convlens.workers.explain.found import RECONSTRUCTION, Found, converted
from convlens.workers.explain.patches import draw_patches
from convlens.workers.explain.plans.gradients import map_numbers, pixel_map
from convlens.workers.explain.plans.plan import Planned, Wanted
from convlens.workers.explain.recalling import layer_slope
from convlens.workers.explain.subject import Subject
from convlens.workers.methods.deconvnet import RULES, DeconvnetResult, Patch, check, deconvnet
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.guided_backprop import guided_backprop
from convlens.workers.methods.guided_grad_cam import guided_grad_cam
from convlens.workers.methods.maps import Box
from convlens.workers.pictures import Picture
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Objective, Pass, Steps

GUIDED, PROJECTED = "score per unit of pixel, rectified on its way back", "activation, projected"
LIGHTER = "negative values are darker than nothing: the last step down is a transposed filter"


def plan_guided_backprop(subject: Subject, wanted: Wanted) -> Planned:
    """Springenberg et al.'s guided backprop."""
    p: methods.GuidedBackprop = wanted.p
    notes = subject.rectified("Guided Backprop", Rule.GUIDED, None)
    make = pixel_map(p.reduction, GUIDED)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        map_ = yield from guided_backprop(picture.x, score_of(target), p)
        return replace(make(map_), notes=notes)

    def opening(x: Tensor, objective: Objective) -> Pass:
        return Pass(x[None], objective, rule=Rule.GUIDED)

    return Planned(begin, map_numbers(subject, p.reduction), opening)


def plan_guided_grad_cam(subject: Subject, wanted: Wanted) -> Planned:
    """Guided backprop where Grad-CAM points."""
    p: methods.GuidedGradCam = wanted.p
    notes = subject.rectified("Guided Grad-CAM", Rule.GUIDED, None)
    layer = subject.grad_cam_layer("Guided Grad-CAM", p.layer)
    make = pixel_map(p.reduction, f"({GUIDED}) times Grad-CAM")

    def begin(picture: Picture, target: int) -> Steps[Found]:
        map_ = yield from guided_grad_cam(picture.x, score_of(target), p, layer.call)
        return replace(make(map_), notes=notes, layer=layer.name)

    opening = partial(layer_slope, layer.call)
    return Planned(begin, map_numbers(subject, p.reduction), opening)


def plan_deconvnet(subject: Subject, wanted: Wanted) -> Planned:
    """Zeiler & Fergus's deconvnet."""
    p: methods.Deconvnet = wanted.p
    layer = subject.map_layer(p.layer)
    check(layer, p, wanted.path)
    notes = (*subject.rectified("Deconvnet", RULES[p.unpooling], layer.call), LIGHTER)
    convert = partial(_projected, layer=layer.name, notes=notes, dtype=wanted.dtype)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        del target
        return converted(deconvnet(picture.x, layer, p), convert, convert)

    channels, height, width = subject.shape
    patches = 1 if p.HasField("map_index") else p.strongest
    return Planned(begin, channels * height * width * (1 + 2 * patches))


def _projected(result: DeconvnetResult, *, layer: str, notes: tuple[str, ...], dtype: int) -> Found:
    details = pb.DeconvnetDetails(patches=[_patch(patch, dtype) for patch in result.patches])
    return Found(
        result.map.movedim(0, -1),
        RECONSTRUCTION,
        PROJECTED,
        samples=len(result.patches),
        layer=layer,
        notes=notes,
        details=pb.Attribution(deconvnet=details),
        draw=_draw,
        is_partial=result.is_partial,
    )


def _patch(patch: Patch, dtype: int) -> pb.DeconvnetPatch:
    made = pb.DeconvnetPatch(
        map_index=patch.map,
        activation=patch.activation,
        receptive_field=_box(patch.field),
        reconstruction=tensor_of(patch.reconstruction.movedim(0, -1), dtype),
        input_patch=tensor_of(patch.input_patch.movedim(0, -1), dtype),
        scale=float(patch.reconstruction.abs().max()),
    )
    if patch.position is not None:
        made.position.row, made.position.column = patch.position
    return made


def _box(box: Box) -> geometry_pb2.Box:
    return geometry_pb2.Box(left=box.left, top=box.top, right=box.right, bottom=box.bottom)


def _draw(made: pb.Attribution, rendering: pb.Rendering) -> None:
    draw_patches(made.deconvnet.patches, rendering)
