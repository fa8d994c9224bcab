"""Methods that look at other pictures than the network's input: covered ones, and larger ones."""

from functools import partial

import torch

from convlens.contract.geometry import check_occlusion, window_count
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import tensor_pb2
from convlens.workers.dense import on_original, prepare_larger
from convlens.workers.explain.attributions import tensor_of
from convlens.workers.explain.found import NON_NEGATIVE, SIGNED, Found, converted
from convlens.workers.explain.plans.gradients import fill_of
from convlens.workers.explain.plans.plan import Planned, Wanted
from convlens.workers.explain.recalling import reading
from convlens.workers.explain.subject import Subject
from convlens.workers.methods.dense_map import dense_map
from convlens.workers.methods.occlusion import Grid, OcclusionResult, occlusion
from convlens.workers.pictures import Picture
from convlens.workers.runner import Steps
from convlens.workers.selection import Selected


def plan_occlusion(subject: Subject, wanted: Wanted) -> Planned:
    """Zeiler & Fergus's occlusion, with its three maps."""
    p: methods.Occlusion = wanted.p
    _, height, width = subject.shape
    check_occlusion(p, height, width, wanted.path)
    layer = _watched(subject, p)
    call, axes = (layer.call, layer.axes) if layer else (None, None)
    name = layer.name if layer else ""

    fill = fill_of(subject, p.fill, p, wanted)
    grid = Grid(height, width, p.window, p.stride)
    capture = () if call is None else (call,)
    way = subject.incremental.plan(
        grid.rows, grid.columns, grid.lots, capture, p.projective_threshold
    )

    def begin(picture: Picture, target: int) -> Steps[Found]:
        steps = occlusion(picture.x, target, p, fill(picture), call, axes, way)
        whole = partial(_covered, layer=name, dtype=wanted.dtype)
        return converted(steps, whole, partial(whole, is_partial=True))

    numbers = height * width + 4 * window_count(p, height, width)
    return Planned(begin, numbers, opening=partial(reading, capture) if capture else None)


def _watched(subject: Subject, p: methods.Occlusion) -> Selected | None:
    """The named layer, or the one that Grad-CAM would take, or none where there is none."""
    if p.layer:
        return subject.layer(p.layer)
    return subject.default_layer()


def _covered(result: OcclusionResult, *, layer: str, dtype: int, is_partial: bool = False) -> Found:
    details = pb.OcclusionDetails(
        probability=tensor_of(result.probability, dtype, checked=False),
        predicted_class=tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_INT64,
            shape=result.predicted_class.shape,
            data=result.predicted_class.numpy().tobytes(),
        ),
        window=result.window,
        stride=result.stride,
        center_rows=result.center_rows,
        center_columns=result.center_columns,
        windows_saved=result.windows_saved,
        full_passes_reason=result.full_passes_reason,
    )
    if result.activation is not None and result.watched_map_index is not None:
        details.activation.CopyFrom(tensor_of(result.activation, dtype, checked=False))
        details.watched_map_index = result.watched_map_index
        details.clean_activation = result.clean_activation or 0.0
    return Found(
        result.map.to(torch.float32),
        SIGNED,
        "score lost when covered",
        samples=result.windows,
        layer=layer,
        error=_error(result),
        notes=_notes(result),
        details=pb.Attribution(occlusion=details),
        is_partial=is_partial,
    )


def _notes(result: OcclusionResult) -> tuple[str, ...]:
    reason = result.full_passes_reason
    return (f"windows are whole forward passes: {reason}",) if reason else ()


def _error(result: OcclusionResult) -> pb.ErrorEstimate | None:
    """That of patches that are cut, else that of windows that are missing."""
    absolute, kind = result.approximation, pb.ERROR_ESTIMATE_KIND_APPROXIMATION
    if absolute is None:
        absolute, kind = result.refinement, pb.ERROR_ESTIMATE_KIND_REFINEMENT
    if absolute is None:
        return None
    largest = float(result.map.abs().max())
    relative = absolute / largest if largest else None
    return pb.ErrorEstimate(kind=kind, absolute=absolute, relative=relative)


def plan_dense_map(subject: Subject, wanted: Wanted) -> Planned:
    """The class at every place of a larger picture."""
    p: methods.DenseMap = wanted.p
    dense = subject.dense

    def begin(picture: Picture, target: int) -> Steps[Found]:
        size = subject.network.facts.input
        larger = prepare_larger(picture.pixels, dense, size, p, wanted.path)
        _, height, width = larger.tensor.shape
        result = yield from dense_map(larger.tensor, target, p, dense.at(height, width))
        return Found(
            result.map,
            NON_NEGATIVE if p.probabilities else SIGNED,
            "probability" if p.probabilities else "score",
            space=pb.MAP_SPACE_GRID,
            box=on_original(larger, result.box),
        )

    return Planned(begin, dense.most_places)
