"""Colours by the names of colormaps."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.mistakes import nearest

Bytes: TypeAlias = NDArray[np.uint8]

# Both are perceptually uniform and dark at zero: over a picture they darken what says nothing. The
# diverging one, blue to red (Kovesi 2015, arXiv:1509.03700), keeps its hues to the ends: where maps
# are grains of both signs, others fade there to white, or to black.
SEQUENTIAL = "bids:inferno"
DIVERGING = "colorcet:CET_D4"
WELL_KNOWN = "inferno, viridis, magma, CET_D4, vik, coolwarm, RdBu_r"
CATALOG = "https://cmap-docs.readthedocs.io/en/stable/catalog"
# An odd number, so that one of them is zero's; a palette holds one more, for what was not seen.
SHADES = 255


class UnknownColormap(ValueError):
    """There is no colormap of this name; the text says which there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Colors:
    """Colours uint8 [SHADES, 3] from the smallest number to the largest.

    With `is_centred` the middle one is zero's, and the first that of the largest negative number.
    """

    table: Bytes
    is_centred: bool


def colors_of(name: str, *, signed: bool) -> Colors:
    """The colours of a map with or without signs; without a name, perceptually uniform ones.

    Diverging colours are centred on zero whether or not there are negative numbers. Raises
    UnknownColormap.
    """
    table, diverges = _table(name or (DIVERGING if signed else SEQUENTIAL))
    return Colors(table, signed or diverges)


def greys() -> Colors:
    """From black over middle grey, at zero, to white."""
    ramp = np.linspace(0, 255, SHADES).round().astype(np.uint8)
    return Colors(np.repeat(ramp[:, None], 3, axis=1), True)


@lru_cache(maxsize=64)
def _table(name: str) -> tuple[Bytes, bool]:
    # Takes some 50 ms to import, which only who draws shall wait for.
    from cmap import Colormap

    reverse = "_r" if name.endswith("_r") else ""
    catalog = Colormap.catalog()
    try:
        # In full, since the library warns of short names that several collections use.
        found = catalog.resolve(name.removesuffix("_r"))
    except KeyError:
        raise UnknownColormap(_unknown(name, list(catalog))) from None
    colormap = Colormap(found + reverse)
    # Some collections are lists of colours, of which this asks for all there are; otherwise it
    # gives every shade and one between each two.
    colors: NDArray[Any] = colormap.lut(2 * SHADES - 1)
    places = np.linspace(0, len(colors) - 1, SHADES).round().astype(int)
    table = (colors[places, :3] * 255).round().astype(np.uint8)
    table.flags.writeable = False
    return table, colormap.category == "diverging"


def _unknown(name: str, known: list[str]) -> str:
    return nearest(name, known, all_of=f"{WELL_KNOWN} and others, see {CATALOG}")
