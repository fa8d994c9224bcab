"""Methods that look at a layer."""

from dataclasses import replace
from functools import partial

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.workers.explain.attributions import tensor_of
from convlens.workers.explain.found import NON_NEGATIVE, SIGNED, Found
from convlens.workers.explain.plans.plan import Planned, Wanted
from convlens.workers.explain.recalling import layer_slope
from convlens.workers.explain.subject import Subject
from convlens.workers.methods.activations import (
    ActivationMap,
    ActivationsResult,
    activations,
    check_count,
    map_count,
)
from convlens.workers.methods.filters import FiltersResult, filters
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.grad_cam import grad_cam
from convlens.workers.pictures import Picture
from convlens.workers.runner import Steps


def plan_grad_cam(subject: Subject, wanted: Wanted) -> Planned:
    """Selvaraju et al.'s Grad-CAM."""
    p: methods.GradCam = wanted.p
    layer = subject.grad_cam_layer("Grad-CAM", p.layer)
    sign = NON_NEGATIVE if p.relu else SIGNED
    found = Found(None, sign, "weighted activation", layer=layer.name)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        result = yield from grad_cam(picture.x, score_of(target), p, layer.call)
        return replace(found, map=result.map)

    _, height, width = subject.shape
    return Planned(begin, height * width, partial(layer_slope, layer.call))


def plan_activations(subject: Subject, wanted: Wanted) -> Planned:
    """The strongest maps of a layer."""
    p: methods.Activations = wanted.p
    layer = subject.layer(p.layer)
    count = map_count(layer.output.shape, layer.axes)
    if count is None:
        shape = list(layer.output.shape)
        raise subject.layers.unfit(layer.name, f"its output {shape} is neither maps nor a vector")
    check_count(p, count, wanted.path)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        del target
        result = yield from activations(picture.x, p, layer.call, layer.axes)
        details = pb.ActivationsDetails(maps=[_activation(m, wanted.dtype) for m in result.maps])
        return Found(
            None,
            SIGNED,
            "activation",
            layer=layer.name,
            details=pb.Attribution(activations=details),
            draw=partial(_draw_maps, result),
        )

    return Planned(begin, layer.output.size // count * min(p.count, count))


def _activation(found: ActivationMap, dtype: int) -> pb.ActivationMap:
    return pb.ActivationMap(
        map_index=found.map, strength=found.strength, values=tensor_of(found.values, dtype)
    )


def _draw_maps(result: ActivationsResult, made: pb.Attribution, rendering: pb.Rendering) -> None:
    from convlens.workers.rendering import draw_plane

    for found, message in zip(result.maps, made.activations.maps, strict=True):
        values = found.values.cpu().float().numpy()
        sign = SIGNED if values.min() < 0 else NON_NEGATIVE
        message.png = draw_plane(values, sign, rendering)


def plan_filters(subject: Subject, wanted: Wanted) -> Planned:
    """The learned filters of a convolution, which are the same for every picture."""
    p: methods.Filters = wanted.p
    network = subject.network
    name = subject.layers.node(p.layer).name
    result = filters(network.module, network.trace, name, p, subject.reference)
    check_count(p, result.available, wanted.path)

    def begin(picture: Picture, target: int) -> Steps[Found]:
        del picture, target
        details = pb.FiltersDetails(
            filters=[
                pb.FilterPlanes(map_index=number, weights=tensor_of(planes, wanted.dtype))
                for number, planes in enumerate(result.filters)
            ]
        )
        return Found(
            None,
            SIGNED,
            "weight",
            layer=name,
            details=pb.Attribution(filters=details),
            draw=partial(_draw_filters, result),
        )
        # There is nothing to compute, but a method is a generator.
        yield from ()

    return Planned(begin, result.filters.numel())


def _draw_filters(result: FiltersResult, made: pb.Attribution, rendering: pb.Rendering) -> None:
    from convlens.workers.rendering import draw_filter

    del rendering
    for planes, message in zip(result.filters, made.filters.filters, strict=True):
        message.png = draw_filter(planes.cpu().float().numpy(), sees_pixels=result.colour)
