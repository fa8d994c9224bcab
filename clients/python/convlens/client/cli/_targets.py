"""What `convlens explain` reads of classes and of regions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray

from convlens.client._targets import target_of
from convlens.v1 import target_pb2

if TYPE_CHECKING:
    TargetType: TypeAlias = click.ParamType[target_pb2.Target]
    RegionType: TypeAlias = click.ParamType[Any]
else:
    # They have no type parameters before click 8.4.
    TargetType = RegionType = click.ParamType


class Target(TargetType):
    """A class by index, by label or by rank: 3, cat, rank:2, label:7."""

    name = "target"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> target_pb2.Target:
        """The contract's target."""
        if isinstance(value, target_pb2.Target):
            return value
        try:
            return target_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Region(RegionType):
    """Where an object is: LEFT,TOP,RIGHT,BOTTOM, or a file with a mask that is black outside."""

    name = "region"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "tuple[float, ...] | NDArray[Any]":
        """A box, or a mask [height, width]."""
        if not isinstance(value, str):
            return value
        try:
            box = tuple(float(number) for number in value.split(","))
        except ValueError:
            return self._mask(value, param, ctx)
        if len(box) != 4:
            self.fail(f"{value!r} is no box; write LEFT,TOP,RIGHT,BOTTOM in pixels.", param, ctx)
        return box

    def _mask(
        self, name: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> NDArray[Any]:
        from PIL import Image

        try:
            with Image.open(Path(name)) as image:
                return np.asarray(image.convert("L")) > 0
        except (OSError, SyntaxError, ValueError) as error:
            self.fail(f"{name!r} is no box, and no mask that can be read: {error}.", param, ctx)
