"""What all results that are pictures can do: show themselves, and be saved."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import Pixels, enlarged, montage, pixels_of, png_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


class Shown(ABC):
    """Something with numbers that can be looked at.

    `png` is the server's picture where one was asked for with `rendering`; where it is empty, a
    plain one is drawn here. Notebooks show it by themselves.
    """

    __slots__ = ()
    png: bytes

    @abstractmethod
    def numbers(self) -> NDArray[Any]:
        """What a .npy file gets."""

    @abstractmethod
    def _pixels(self) -> Pixels:
        """The plain picture, [height, width, 3], with a pixel for each number."""

    def image(self) -> "PILImage":
        """The picture, as Pillow has it."""
        from PIL import Image

        with Image.open(BytesIO(self._as_png())) as image:
            image.load()
            return image

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the picture into a .png file, or the numbers into a .npy file.

        Raises ValueError for any other name, and FileNotFoundError where there is no such folder.
        """
        kind = Path(path).suffix.lower()
        if kind in (".png", ".npy") and not Path(path).parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(Path(path).parent)!r} to write {Path(path).name!r} into."
            )
        if kind == ".png":
            Path(path).write_bytes(self._as_png())
        elif kind == ".npy":
            numbers = self.numbers()
            with Path(path).open("wb") as file:
                np.save(file, numbers, allow_pickle=False)
        else:
            raise ValueError(f"The name is {os.fspath(path)!r}; it must end in .png or .npy.")

    def _as_png(self) -> bytes:
        return self.png or png_of(enlarged(self._pixels()))

    def _sheet(self, parts: "Sequence[Shown]") -> bytes:
        """All pictures of one answer as one."""
        return png_of(montage([enlarged(pixels_of(part._as_png())) for part in parts]))

    def _repr_png_(self) -> bytes | None:
        return self._as_png()
