"""Draws what excites maps: patches beside their projections, map by map."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from convlens.client._errors import ConvLensError
from convlens.client.studies._charts import FAINT, INK, LINE, sheet
from convlens.client.studies._reading import whole
from convlens.client.studies._top_patches import Patch

# In pixels: of a patch, between groups, and above each of them.
SIDE, SPACE, HEAD = 64, 26, 20
# Between projections and patches.
BETWEEN = 10
# Of whole pictures: their side, between them, and left of them.
WHOLE, GAP, MARGIN = 96, 4, 64
# Maps beside each other, and patches in a row of one.
ACROSS, SQUARE = 3, 3


def patch_sheet(patches: Mapping[int, Sequence[Patch]]) -> Image.Image:
    """For each map its patches and, left of them, their projections on the map's own scale."""
    groups = [(index, _group(found)) for index, found in patches.items()]
    height = max(group.shape[0] for _, group in groups) + HEAD
    width = max(group.shape[1] for _, group in groups)
    rows = ceil(len(groups) / ACROSS)
    columns = min(ACROSS, len(groups))
    size = (columns * (width + SPACE) + SPACE, rows * (height + SPACE) + SPACE)
    made = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(13)
    for number, (index, group) in enumerate(groups):
        left = SPACE + number % ACROSS * (width + SPACE)
        top = SPACE + number // ACROSS * (height + SPACE)
        draw.text((left, top), f"map {index}", INK, font)
        best = f"strongest {patches[index][0].activation:.3g}"
        draw.text((left + width, top), best, FAINT, font, anchor="ra")
        made.paste(Image.fromarray(group), (left, top + HEAD))
    return made


def _group(found: Sequence[Patch]) -> NDArray[np.uint8]:
    projections = [one.projection for one in found if one.projection is not None]
    scale = max((float(np.abs(one).max()) for one in projections if one.size), default=0.0)
    lines: list[list[NDArray[np.uint8]]] = []
    for start in range(0, len(found), SQUARE):
        row = found[start : start + SQUARE]
        blank = [np.full((8, 8, 3), 255, np.uint8)] * (SQUARE - len(row))
        down = [signed_pixels(one.projection, scale) for one in row]
        lines.append([*down, *blank, *(plain_pixels(one.pixels) for one in row), *blank])
    projected = sheet([line[:SQUARE] for line in lines], side=SIDE)
    between = np.full((len(projected), BETWEEN, 3), 255, np.uint8)
    return np.hstack([projected, between, sheet([line[SQUARE:] for line in lines], side=SIDE)])


def region_sheet(patches: Mapping[int, Sequence[Patch]]) -> Image.Image:
    """For each map a row of whole pictures, a box around what excites it, and how much it does."""
    columns = max(map(len, patches.values()))
    size = (MARGIN + columns * (WHOLE + GAP), len(patches) * (WHOLE + GAP))
    made = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(13)
    for row, (index, found) in enumerate(patches.items()):
        top = row * (WHOLE + GAP)
        draw.text((0, top + WHOLE // 2), f"map {index}", INK, font, anchor="lm")
        for column, patch in enumerate(found):
            made.paste(_boxed(patch), (MARGIN + column * (WHOLE + GAP), top))
    return made


def _boxed(patch: Patch) -> Image.Image:
    """A picture in a square, with its region and activation; white on black is seen everywhere."""
    tile = Image.new("RGB", (WHOLE, WHOLE), "white")
    draw = ImageDraw.Draw(tile)
    try:
        picture = whole(patch.picture).convert("RGB")
    except ConvLensError:
        # It was there when it was asked for.
        draw.rectangle((0, 0, WHOLE, WHOLE), LINE)
        return tile
    scale = WHOLE / max(picture.size)
    left, top = ((WHOLE - round(scale * side)) // 2 for side in picture.size)
    tile.paste(picture.resize([max(1, round(scale * side)) for side in picture.size]), (left, top))
    if patch.region is not None:
        corners = [scale * edge for edge in patch.region]
        shifted = [left + corners[0], top + corners[1], left + corners[2] - 1, top + corners[3] - 1]
        draw.rectangle(shifted, outline="black", width=3)
        draw.rectangle(shifted, outline="white", width=1)
    draw.text(
        (3, WHOLE - 2),
        f"{patch.activation:.3g}",
        "white",
        ImageFont.load_default(13),
        anchor="ls",
        stroke_width=2,
        stroke_fill="black",
    )
    return tile


def signed_pixels(values: NDArray[Any] | None, scale: float) -> NDArray[np.uint8]:
    """A projection as a picture; grey is nothing, as Zeiler & Fergus draw them."""
    if values is None or not values.size:
        return np.full((8, 8, 3), 128, np.uint8)
    return _bytes(0.5 + 0.5 * values / (scale or 1))


def plain_pixels(values: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Pixels in [0, 1] as a picture; white where there are none."""
    if values is None or not values.size:
        return np.full((8, 8, 3), 255, np.uint8)
    return _bytes(values)


def _bytes(shares: NDArray[Any]) -> NDArray[np.uint8]:
    pixels = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels
