"""Crops that the client makes, against the server's own geometry and torchvision's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from convlens.client import ImageFileNotFound, InvalidImage
from convlens.client.studies._crops import crops_of

# It is typed for tensors alone, and takes Pillow's images.
TF: Any = functional


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("size", [(200, 131), (131, 200), (128, 128), (37, 90)])
def test_a_crop_is_bit_for_bit_the_server_s(client, tmp_path: Path, mode, size) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 65536, size[::-1], np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (*size[::-1], 4), np.uint8)).convert(mode)
    file = tmp_path / "picture.png"
    picture.save(file)
    taken = client.network().input
    [crop] = crops_of(file, taken, [1], 1)
    own = client.extract_features(file, "features.0", pooling="max")[0]
    as_sent = client.extract_features(crop, "features.0", pooling="max", geometry="as_is")[0]
    np.testing.assert_array_equal(as_sent, own)
    ten = crops_of(file, taken, [1.3], 10)
    expected = TF.ten_crop(resized_as(file, round(1.3 * 128)), 128)
    for got, wanted in zip(ten, expected, strict=True):
        np.testing.assert_array_equal(got, np.asarray(wanted))


def resized_as(file: Path, side: int) -> Image.Image:
    """The picture as people see it, resized by torchvision."""
    picture = Image.open(file)
    if picture.mode == "I;16":
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return TF.resize(picture.convert("RGB"), side, antialias=True)


def test_a_file_that_is_no_picture_is_no_crop(client, tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InvalidImage, match="The image cannot be read"):
        crops_of(file, client.network().input, [1], 1)
    with pytest.raises(ImageFileNotFound, match="There is no file"):
        crops_of(tmp_path / "none.png", client.network().input, [1], 1)
