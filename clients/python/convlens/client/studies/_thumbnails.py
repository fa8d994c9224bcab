"""Small versions of pictures, as pages and sheets show them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, isqrt, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from convlens.client.studies._charts import fitted
from convlens.client.studies._walk import Progress

# Pixels of all thumbnails together, which a browser and a file still hold well, and of the side of
# one; sides are multiples of 8, since JPEG mixes the pixels of such blocks.
MOST_PIXELS, LEAST_SIDE, MOST_SIDE, BLOCK = 20_000_000, 24, 128, 8
QUALITY = 82
GREY = 128


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """Pictures in squares, `pixels` [n, side, side, 3]; each lies in the upper left corner.

    `sizes` [n, 2] are the (height, width) that it has there.
    """

    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    @property
    def side(self) -> int:
        """Of a square, in pixels."""
        return self.pixels.shape[1]

    def of(self, number: int, side: int = 0) -> NDArray[np.uint8]:
        """One of them without what is around it, with its longer side as given."""
        height, width = self.sizes[number]
        picture = self.pixels[number, :height, :width]
        return picture if side in (0, self.side) else fitted(picture, side)

    def sheet(self) -> tuple[bytes, int]:
        """All of them as one JPEG, row by row, and how many are in a row."""
        columns = ceil(sqrt(len(self.pixels)))
        rows = ceil(len(self.pixels) / columns)
        side = self.side
        made = np.full((rows, side, columns, side, 3), 255, np.uint8)
        for number, pixels in enumerate(self.pixels):
            made[number // columns, :, number % columns] = pixels
        image = Image.fromarray(made.reshape(rows * side, columns * side, 3))
        out = BytesIO()
        image.save(out, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
        return out.getvalue(), columns


def side_for(count: int) -> int:
    """The side of so many thumbnails, in pixels."""
    side = isqrt(MOST_PIXELS // max(1, count)) // BLOCK * BLOCK
    return min(MOST_SIDE, max(LEAST_SIDE, side))


def thumbnails(paths: Sequence[Path], side: int, progress: Progress) -> Thumbnails:
    """Those of files; of one that cannot be read here, a grey square."""
    pixels = np.full((len(paths), side, side, 3), 255, np.uint8)
    sizes = np.full((len(paths), 2), side, np.int64)
    for number, path in enumerate(paths):
        picture = opened(path, side)
        if picture is None:
            pixels[number] = GREY
        else:
            small = fitted(np.asarray(picture), side)
            sizes[number] = small.shape[:2]
            pixels[number, : small.shape[0], : small.shape[1]] = small
        progress("thumbnails", number + 1, len(paths))
    return Thumbnails(pixels, sizes)


def opened(path: Path, longest: int) -> Image.Image | None:
    """The picture upright, on white, in RGB and no longer than that; None where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                # Of a JPEG, only as much is decoded as is needed.
                file.draft("RGB", (longest, longest))
                image = _on_white(ImageOps.exif_transpose(file))
    # Decoders raise whatever a damaged file leads them to.
    except Exception:
        return None
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert("RGBA")
    made = Image.new("RGB", image.size, "white")
    made.paste(above, mask=above.getchannel("A"))
    return made
