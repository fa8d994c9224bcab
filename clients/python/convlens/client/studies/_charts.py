"""Charts and sheets of pictures in one style, drawn without a screen."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

INK, FAINT, LINE, PAPER = "#1b1d23", "#5d6370", "#e3e0d8", "#ffffff"
#: Colours that people with any vision tell apart; more than these are told apart by dashes.
COLOURS = ("#0072b2", "#d55e00", "#008a64", "#a0409a", "#8a6d00", "#2a8fc4", "#1b1d23")
DASHES = ("-", "--", ":", "-.")
DPI = 160
STYLE: Any = {
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}
#: For functions that draw: titles and legends take their style when they are made.
in_style: Any = rc_context(STYLE)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes [rows, columns] in the house's style."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False)


def picture_of(figure: Figure) -> Image.Image:
    """What the figure looks like."""
    out = BytesIO()
    with rc_context(STYLE):
        figure.savefig(out, format="png")
    with Image.open(BytesIO(out.getvalue())) as image:
        return image.convert("RGB")


def style_of(number: int) -> dict[str, Any]:
    """Colour and dashes of the curve of that number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
    }


def sheet(
    pictures: Sequence[Sequence[NDArray[np.uint8]]], *, side: int = 96, gap: int = 3
) -> NDArray[np.uint8]:
    """Pictures [height, width, 3] in rows, each enlarged or reduced to fit a square of `side`."""
    columns = max(map(len, pictures), default=0)
    step = side + gap
    made = np.full((len(pictures) * step - gap, columns * step - gap, 3), 255, np.uint8)
    for row, line in enumerate(pictures):
        for column, picture in enumerate(line):
            tile = fitted(picture, side)
            top = row * step + (side - tile.shape[0]) // 2
            left = column * step + (side - tile.shape[1]) // 2
            made[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return made


def fitted(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture with its longer side as given; small ones keep their pixels' edges."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    way = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize(size, way))
