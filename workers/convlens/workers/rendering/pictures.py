"""Pictures in 8 bits, at the size that is needed."""

import numpy as np
from PIL import Image

from convlens.workers.images import Pixels


def image_of(picture: Pixels) -> Image.Image:
    """The picture in mode L or RGB."""
    values = picture.values
    if isinstance(values, Image.Image):
        return values
    eight_bits = (values.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(eight_bits[:, :, 0] if len(values) == 1 else eight_bits)


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at a size (width, height), bilinear and without aliasing."""
    if image.size == size:
        return image
    # First by whole pixels, since pictures of many megapixels take long.
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
