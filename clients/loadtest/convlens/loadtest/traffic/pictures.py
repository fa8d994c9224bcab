"""The pictures that are sent: from a folder, or drawn."""

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as pil
from PIL import ImageDraw, ImageFilter

from convlens.client._picture_files import find
from convlens.loadtest.scenario import BadScenario, Pictures
from convlens.v1.image_pb2 import Image
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor


def pictures_of(wanted: Pictures, folder: Path, seed: int) -> list[Image]:
    """Different pictures, as many as are wanted or as the folder has."""
    if wanted.folder is None:
        return [_drawn(wanted, (seed, number)) for number in range(wanted.distinct)]
    path = folder / Path(wanted.folder).expanduser()
    files = find([str(path)]) if path.is_dir() else []
    if not files:
        why = "there are no pictures in it" if path.is_dir() else "there is no such folder"
        raise BadScenario(f"pictures.folder is {wanted.folder}: {why}.")
    chosen = random.Random(seed).sample(files, min(wanted.distinct, len(files)))
    return list(_read(chosen))


def _read(files: list[Path]) -> Iterator[Image]:
    for file in files:
        try:
            yield Image(encoded=file.read_bytes())
        except OSError as error:
            raise BadScenario(f"{file} cannot be read: {error.strerror}.") from error


def _drawn(wanted: Pictures, seed: tuple[int, int]) -> Image:
    """Shapes before a coloured ground, with the noise of a camera; no two of them alike."""
    width, height = wanted.size
    rng = np.random.default_rng(seed)
    picture = _ground(width, height, rng)
    drawing = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.08, 0.3) * min(width, height)
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        sides, turn = int(rng.integers(3, 9)), float(rng.uniform(0, 360))
        drawing.regular_polygon((x, y, radius), sides, turn, fill=color)
    smooth = picture.filter(ImageFilter.GaussianBlur(0.6))
    noise = rng.normal(0, 4, (height, width, 3))
    pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
    if wanted.format == "tensor":
        tensor = Tensor(dtype=DATA_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes())
        return Image(tensor=tensor)
    buffer = BytesIO()
    options = {"quality": wanted.quality} if wanted.format == "jpeg" else {}
    pil.fromarray(pixels).save(buffer, wanted.format, **options)
    return Image(encoded=buffer.getvalue())


def _ground(width: int, height: int, rng: np.random.Generator) -> pil.Image:
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return pil.fromarray(corners).resize((width, height), pil.Resampling.BICUBIC)
