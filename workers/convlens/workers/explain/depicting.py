"""What can be seen of an attribution: the map drawn, and the object that it points at."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import quality_pb2, tensor_pb2
from convlens.workers.explain.found import Found
from convlens.workers.images import Pixels
from convlens.workers.localization import Finding, Region, check_localization, localize
from convlens.workers.pictures import Picture
from convlens.workers.rendering import check_rendering, draw


def check_depiction(request: pb.ExplainRequest) -> None:
    """Raises Failure INVALID_REQUEST for a drawing or a localisation that there cannot be."""
    if request.HasField("rendering"):
        check_rendering(request.rendering)
    if request.HasField("localization"):
        check_localization(request.localization)


def depict(
    made: pb.Attribution, found: Found, picture: Picture, request: pb.ExplainRequest
) -> None:
    """Adds to an attribution what the request wants to see of it."""
    if request.HasField("rendering"):
        rendering = request.rendering
        if found.map is not None:
            made.png = _drawn(made, found, picture, rendering)
        if found.draw:
            found.draw(made, rendering)
    if request.HasField("localization") and found.map is not None:
        finding = find_object(found, picture, made.geometry, request.localization)
        if finding.region:
            made.region.CopyFrom(region_of(finding.region))
        if finding.note:
            made.notes.append(finding.note)


def find_object(
    found: Found,
    picture: Picture,
    geometry: pb.MapGeometry,
    p: quality_pb2.Localization,
) -> Finding:
    """The object that a map points at."""
    seen = Pixels(picture.x) if found.box is None else _cut(picture.pixels, found.box)
    return localize(numbers(found), found.sign, seen, geometry, p)


def numbers(found: Found) -> NDArray[np.float32]:
    """The map as an array."""
    assert found.map is not None
    return found.map.detach().float().cpu().numpy()


def region_of(region: Region) -> quality_pb2.Region:
    """The message."""
    mask = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_UINT8, shape=region.mask.shape, data=region.mask.tobytes()
    )
    return quality_pb2.Region(box=region.box, mask=mask)


def _drawn(made: pb.Attribution, found: Found, picture: Picture, rendering: pb.Rendering) -> bytes:
    # What does not lie on the network's input is drawn where it lies.
    whole = rendering.original_size or found.box is not None
    used = pb.Rendering()
    used.CopyFrom(rendering)
    used.original_size = whole
    seen = picture.pixels if whole else Pixels(picture.x)
    return draw(numbers(found), found.sign, used, seen, made.geometry)


def _cut(pixels: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """The part of a picture in a box, in whole pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    values = pixels.values
    if isinstance(values, Image.Image):
        return Pixels(values.crop((left, top, right, bottom)))
    return Pixels(values[:, max(top, 0) : bottom, max(left, 0) : right])
