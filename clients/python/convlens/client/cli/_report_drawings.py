"""What a report shows: pictures inside the page, and what the colours of a map mean."""

import base64
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client import Attribution
from convlens.client._drawing import drawn, png_of, scale_of
from convlens.client._quality import Box

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Drawing: TypeAlias = "PILImage"

# Pixels on the longer side of a picture, and of that in the table of contents.
LONGEST, SMALLEST = 640, 96
QUALITY = 88
# Colours of a legend; between them the browser goes on evenly.
STOPS = 17
# What the first and the last colour say.
WORDS = {
    "non_negative": ("nothing", "most"),
    "signed": ("against it", "for it"),
    "reconstruction": ("darker", "lighter"),
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture that is a part of the page; its size is that of the original, in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Legend:
    """What the colours of a map mean: a CSS gradient, the numbers at its ends, and words."""

    gradient: str
    lowest: float
    highest: float
    words: tuple[str, str]


def shown_picture(data: bytes, longest: int = LONGEST) -> Embedded | None:
    """The picture of a file as a server sees it; None where it is none that can be shown."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data)) as opened:
                image = ImageOps.exif_transpose(_on_white(opened))
    # Decoders raise whatever a damaged file leads them to.
    except Exception:
        return None
    width, height = image.size
    image.thumbnail((longest, longest))
    return Embedded(_webp(image), width, height)


def shown_map(drawing: Drawing) -> str:
    """A drawing, made smaller where it is larger than the page shows it."""
    if max(drawing.size) <= LONGEST:
        return shown_tile(drawing)
    small = drawing.convert("RGB")
    small.thumbnail((LONGEST, LONGEST))
    return _webp(small)


def shown_tile(drawing: Drawing) -> str:
    """A drawing as it is."""
    buffer = BytesIO()
    drawing.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def shown_pixels(values: NDArray[Any]) -> str:
    """Pixels [height, width, 1 or 3] in [0, 1]."""
    colors = np.broadcast_to(values, (*values.shape[:2], 3)).clip(0, 1)
    return shown_png(png_of((colors * 255).round().astype(np.uint8)))


def shown_png(data: bytes) -> str:
    """A picture that is a PNG already."""
    return _uri("png", data)


def legend_of(found: Attribution, drawing: Drawing) -> Legend:
    """What the colours of a heat map mean, as a server draws it where nothing is said of how."""
    numbers = found.map.astype(np.float64)
    limit, sign = scale_of(numbers), found.sign
    if numbers.ndim == 3 and numbers.shape[2] == 3 and sign == "signed":
        # Such a map is drawn in its own colours, around grey.
        sign = "reconstruction"
    lowest = 0.0 if sign == "non_negative" else -limit
    return Legend(gradient(_colors(drawing, sign)), lowest, limit, WORDS[found.sign])


def gradient(colors: NDArray[np.uint8]) -> str:
    """Colours [n, 3] from left to right, as CSS writes them."""
    places = np.linspace(0, len(colors) - 1, min(STOPS, len(colors))).round().astype(int)
    stops = ("#" + bytes(colors[place]).hex() for place in places)
    return f"linear-gradient(90deg, {', '.join(stops)})"


def greys() -> str:
    """What a projection is drawn in, from darker to lighter."""
    return gradient(_plain("reconstruction"))


def curve_points(curve: Sequence[float]) -> str:
    """Numbers in [0, 1] as the points of a line in a field of 100 x 40."""
    across = np.linspace(0, 100, len(curve))
    down = 39 - 38 * np.clip(curve, 0, 1)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))


def place_of(found: Attribution, box: Box) -> dict[str, float] | None:
    """Where a box of the network's input lies on the original picture, in percent of its sides."""
    geometry, values = found.geometry, found.values
    if geometry is None or values is None:
        return None
    crop, (rows, columns) = geometry.crop, values.shape[:2]
    across = (crop.right - crop.left) / columns / geometry.original_width * 100
    down = (crop.bottom - crop.top) / rows / geometry.original_height * 100
    left = crop.left / geometry.original_width * 100
    top = crop.top / geometry.original_height * 100
    edges = np.clip(
        [
            *(left + box.left * across, top + box.top * down),
            *(left + box.right * across, top + box.bottom * down),
        ],
        0,
        100,
    ).tolist()
    return {
        "left": edges[0],
        "top": edges[1],
        "width": edges[2] - edges[0],
        "height": edges[3] - edges[1],
    }


def _colors(drawing: Drawing, sign: str) -> NDArray[np.uint8]:
    """The colours of a heat map, from the first to the last."""
    palette = drawing.getpalette() if drawing.mode == "P" else None
    # The last one is that of what the map does not cover.
    return np.array(palette, np.uint8).reshape(-1, 3)[:-1] if palette else _plain(sign)


def _plain(sign: str) -> NDArray[np.uint8]:
    first = 0.0 if sign == "non_negative" else -1.0
    return drawn(np.linspace(first, 1, STOPS)[None], sign, 1.0)[0]


def _on_white(image: Drawing) -> Drawing:
    """In RGB, what shines through white; of 16 bits the upper 8."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        converted = image.convert("RGB")
    else:
        layer = image.convert("RGBA")
        converted = Image.new("RGB", image.size, "white")
        converted.paste(layer, mask=layer)
    converted.info = image.info
    return converted


def _webp(image: Drawing) -> str:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return _uri("webp", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
