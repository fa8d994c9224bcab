"""The maps of a layer, and which part of the picture their units see."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.validation import Violation
from convlens.workers.anatomy.fields import Extent


class Box(NamedTuple):
    """Rows from `top` to before `bottom` and columns from `left` to before `right`, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, picture: Tensor) -> Tensor:
        """A copy of that part of a picture [channels, height, width]."""
        return picture[:, self.top : self.bottom, self.left : self.right].clone()


@dataclass(frozen=True)
class MapLayer:
    """A layer by its call, whose output for one picture is maps or a vector.

    `shape` is [maps, height, width], or [features] for as many maps of one unit. `fields` are what
    the first unit sees, None where that is everything or not known. `network` and `name` are what
    callers know the two by. Raises Failure LAYER_NOT_APPLICABLE where it has another shape.
    """

    call: int
    shape: tuple[int, ...]
    fields: tuple[Extent, Extent] | None
    network: str
    name: str

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3):
            raise self.unfit(f"its output {list(self.shape)} is neither maps nor a vector")

    @property
    def maps(self) -> tuple[int, int, int]:
        """How many maps it has, and their height and width."""
        count, height, width = (*self.shape, 1, 1)[:3]
        return count, height, width

    def missing(self, map: int, row: int, column: int, path: str) -> list[Violation]:
        """What is wrong with a map, and a unit of it, that the layer does not have.

        `path` stands before the names of their fields.
        """
        count, height, width = self.maps
        limits = (
            ("map_index", map, count, "number of maps"),
            ("position.row", row, height, "height of the maps"),
            ("position.column", column, width, "width of the maps"),
        )
        return [
            Violation(
                field=f"{path}.{field}",
                description=f"is {value}; must be below {end}, the {what} of {self.name!r}",
            )
            for field, value, end, what in limits
            if value >= end
        ]

    def field(self, position: tuple[int, int] | None, size: tuple[int, int]) -> Box:
        """What a unit sees of a picture of this height and width, or all units of a map together.

        A unit that sees nothing but padding has the pixel that is nearest.
        """
        if self.fields is None:
            return Box(0, 0, *size)
        _, *units = self.maps
        first, last = position or (0, 0), position or (units[0] - 1, units[1] - 1)
        (top, bottom), (left, right) = map(_span, self.fields, first, last, size)
        return Box(top, left, bottom, right)

    def unfit(self, detail: str) -> Failure:
        """What a caller is told who cannot use it so; `detail` is the end of a sentence."""
        reason = ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
        return Failure(reason, network=self.network, layer=repr(self.name), detail=detail)


def _span(extent: Extent, first: int, last: int, pixels: int) -> tuple[int, int]:
    """What the units from `first` to `last` see along one axis."""
    start = min(max(extent.first + first * extent.jump, 0), pixels - 1)
    stop = min(extent.first + last * extent.jump + extent.size, pixels)
    return start, max(stop, start + 1)
