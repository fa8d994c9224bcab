"""Draws a map, and the grid of all its pictures, as one big picture each."""

from collections.abc import Sequence
from colorsys import hls_to_rgb

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.client.studies._charts import COLOURS, LINE
from convlens.client.studies._code_map import CodeMap
from convlens.client.studies._layout import apart

# In pixels: of the map at most, of its thumbnails, dots and edges; of the grid, of its cells, and
# between them.
WIDTH, HEIGHT, THUMB, DOT, EDGE = 1600, 1100, 56, 4, 40
GRID, LEAST, MOST, GAP = 2000, 20, 80, 2


def map_sheet(made: CodeMap) -> Image.Image:
    """Thumbnails wherever they do not overlap, each on its point, and dots elsewhere."""
    points, size = _on_paper(made.positions)
    sizes = made.thumbnails.sizes[:, ::-1] * THUMB / made.thumbnails.side + 6
    order = np.random.default_rng(0).permutation(len(points))
    taken = order[apart(points[order], sizes[order])]
    names, classes = np.unique(np.asarray(made.labels or made.predictions), return_inverse=True)
    colours = [_colour(number, len(names)) for number in range(len(names))]
    sheet = _dots(points, [colours[int(number)] for number in classes], size)
    draw = ImageDraw.Draw(sheet)
    for number in taken:
        picture = made.thumbnails.of(number, THUMB)
        left = round(points[number, 0] - picture.shape[1] / 2)
        top = round(points[number, 1] - picture.shape[0] / 2)
        right, bottom = left + picture.shape[1], top + picture.shape[0]
        draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), colours[classes[number]])
        sheet.paste(Image.fromarray(picture), (left, top))
    return sheet


def grid_sheet(made: CodeMap) -> Image.Image:
    """Every picture in the cell of the grid that it was given."""
    rows, columns = (made.cells.max(axis=0) + 1).tolist()
    side = min(MOST, max(LEAST, GRID // columns))
    size = (columns * (side + GAP) + GAP, rows * (side + GAP) + GAP)
    sheet = Image.new("RGB", size, LINE)
    for number, (row, column) in enumerate(made.cells.tolist()):
        picture = made.thumbnails.of(number, side)
        left = GAP + column * (side + GAP) + (side - picture.shape[1]) // 2
        top = GAP + row * (side + GAP) + (side - picture.shape[0]) // 2
        sheet.paste(Image.fromarray(picture), (left, top))
    return sheet


def _on_paper(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Where points lie on the sheet, in pixels, with room for thumbnails at its edges; its size."""
    span = np.ptp(positions, axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * EDGE
    scale = (room / np.where(span > 0, span, 1)).min() if span.any() else 1.0
    points = (positions - positions.min(axis=0)) * scale + EDGE
    width, height = (span * scale + 2 * EDGE).round().astype(int).tolist()
    points[:, 1] = height - points[:, 1]
    return points, (width, height)


def _dots(
    points: NDArray[np.float64], colours: Sequence[str], size: tuple[int, int]
) -> Image.Image:
    """Drawn twice as large at first, for smooth edges."""
    large = Image.new("RGB", (2 * size[0], 2 * size[1]), "white")
    draw = ImageDraw.Draw(large)
    for point, colour in zip(points, colours, strict=True):
        x, y = (2 * point).tolist()
        draw.ellipse((x - 2 * DOT, y - 2 * DOT, x + 2 * DOT, y + 2 * DOT), colour)
    return large.resize(size, Image.Resampling.LANCZOS)


def _colour(number: int, count: int) -> str:
    """Where there are more classes than colours, hues as far apart as may be."""
    if count <= len(COLOURS):
        return COLOURS[number]
    red, green, blue = hls_to_rgb(number * 0.381966 % 1, (0.42, 0.55, 0.3)[number % 3], 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
