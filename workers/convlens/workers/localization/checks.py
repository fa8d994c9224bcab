"""What is wrong with a localisation or a true region, found before anything is computed."""

from collections.abc import Iterator
from math import isfinite, prod

from convlens.contract.validation import Violation, invalid
from convlens.v1 import geometry_pb2, quality_pb2, tensor_pb2

UINT8 = tensor_pb2.DATA_TYPE_UINT8


def check_localization(p: quality_pb2.Localization, field: str = "localization") -> None:
    """Raises Failure INVALID_REQUEST where GrabCut's background would reach into its foreground.

    `p` keeps the rules of the contract, with all defaults filled in.
    """
    low, high = p.background_quantile, p.foreground_quantile
    if p.method == quality_pb2.LOCALIZATION_METHOD_GRABCUT and low >= high:
        words = f"is {low:g}; must be less than foreground_quantile, which is {high:g}"
        raise invalid([Violation(field=f"{field}.background_quantile", description=words)])


def check_true_region(region: quality_pb2.TrueRegion, height: int, width: int, field: str) -> None:
    """Raises Failure INVALID_REQUEST where a region is none of a picture of this size.

    A region that says that it is not known passes.
    """
    kind = region.WhichOneof("region")
    broken: list[Violation] = []
    if kind == "box":
        broken = list(_wrong_box(region.box, height, width, f"{field}.box"))
    elif kind == "mask":
        broken = list(_wrong_mask(region.mask, height, width, f"{field}.mask"))
    if broken:
        raise invalid(broken)


def _wrong_box(box: geometry_pb2.Box, height: int, width: int, field: str) -> Iterator[Violation]:
    edges = {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom}
    endless = [name for name, value in edges.items() if not isfinite(value)]
    for name in endless:
        words = f"is {edges[name]:g}; must be a finite number of pixels"
        yield Violation(field=f"{field}.{name}", description=words)
    if endless:
        return
    inside_out = [
        pair for pair in (("left", "right"), ("top", "bottom")) if edges[pair[1]] <= edges[pair[0]]
    ]
    for low, high in inside_out:
        words = f"is {edges[high]:g}; must be greater than {low}, which is {edges[low]:g}"
        yield Violation(field=f"{field}.{high}", description=words)
    beside = box.left >= width or box.right <= 0 or box.top >= height or box.bottom <= 0
    if beside and not inside_out:
        words = f"must touch the picture, which has {height} x {width} pixels (height x width)"
        yield Violation(field=field, description=words)


def _wrong_mask(
    mask: tensor_pb2.Tensor, height: int, width: int, field: str
) -> Iterator[Violation]:
    shape = list(mask.shape)
    if mask.dtype != UINT8 or shape != [height, width]:
        known = tensor_pb2.DataType.DESCRIPTOR.values_by_number.get(mask.dtype)
        dtype = known.name if known else str(mask.dtype)
        size = f"[{height}, {width}], the picture's height and width once it is upright"
        words = f"is {dtype} {shape}; must be DATA_TYPE_UINT8 {size}"
        yield Violation(field=field, description=words)
    elif len(mask.data) != prod(shape):
        words = f"has {len(mask.data)} bytes; must have {prod(shape)} for its shape {shape}"
        yield Violation(field=field, description=words)
    elif not any(mask.data):
        yield Violation(field=field, description="is 0 everywhere; must not be 0 in the object")
