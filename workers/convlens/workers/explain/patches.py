"""Deconvnet's patches drawn, at one scale for all that are of the same map."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import tensor_pb2
from convlens.workers.explain.found import RECONSTRUCTION

_DTYPES = {tensor_pb2.DATA_TYPE_FLOAT16: "<f2", tensor_pb2.DATA_TYPE_FLOAT32: "<f4"}


def draw_patches(patches: Iterable[pb.DeconvnetPatch], rendering: pb.Rendering) -> None:
    """Draws each patch at its scale."""
    from convlens.workers.rendering import draw_plane

    for patch in patches:
        tensor = patch.reconstruction
        values = np.frombuffer(tensor.data, _DTYPES[tensor.dtype]).reshape(tuple(tensor.shape))
        plane = values.astype(np.float32)
        patch.png = draw_plane(plane, RECONSTRUCTION, rendering, patch.scale or None)


def share_scales(results: Iterable[pb.AttributionResult], request: pb.ExplainRequest) -> None:
    """Gives all patches of a map, whatever their image, the largest of their scales."""
    same: defaultdict[tuple[int, int], list[pb.DeconvnetPatch]] = defaultdict(list)
    for result in results:
        for patch in result.attribution.deconvnet.patches:
            same[result.method_index, patch.map_index].append(patch)
    for patches in same.values():
        largest = max(patch.scale for patch in patches)
        smaller = [patch for patch in patches if patch.scale < largest]
        for patch in smaller:
            patch.scale = largest
        if request.HasField("rendering"):
            draw_patches(smaller, request.rendering)
