"""Small versions of pictures, as pages and sheets show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, isqrt, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.client.studies._charts import fitted
from convlens.client.studies._reading import small
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
        picture = small(path, side)
        if picture is None:
            pixels[number] = GREY
        else:
            tile = fitted(np.asarray(picture), side)
            sizes[number] = tile.shape[:2]
            pixels[number, : tile.shape[0], : tile.shape[1]] = tile
        progress("thumbnails", number + 1, len(paths))
    return Thumbnails(pixels, sizes)
