"""What is wrong with how a map is to be drawn, found before anything is computed."""

from collections.abc import Iterator

from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_pb2
from convlens.workers.rendering.colors import UnknownColormap, colors_of


def check_rendering(rendering: explanation_pb2.Rendering, field: str = "rendering") -> None:
    """Raises Failure INVALID_REQUEST for an unknown colormap, or a fixed scale without its value.

    `rendering` keeps the rules of the contract, with all defaults filled in.
    """
    if broken := list(_violations(rendering, field)):
        raise invalid(broken)


def _violations(rendering: explanation_pb2.Rendering, field: str) -> Iterator[Violation]:
    fixed = rendering.scale == explanation_pb2.COLOR_SCALE_FIXED
    if fixed and not rendering.HasField("maximum"):
        words = "must be set with COLOR_SCALE_FIXED, to the value that gets the last colour"
        yield Violation(field=f"{field}.maximum", description=words)
    try:
        colors_of(rendering.colormap, signed=False)
    except UnknownColormap as error:
        words = f"is {rendering.colormap!r}; must be the name of a colormap: {error}"
        yield Violation(field=f"{field}.colormap", description=words)
