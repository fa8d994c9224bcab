"""Where a network's input lies in a picture."""

from dataclasses import dataclass

from convlens.v1 import network_pb2

# Pixels of a whole resized picture; above it only what is cropped is computed. A picture of one
# row and 16 384 columns would take 4 GB for 224 columns of it.
MAX_RESIZED = 2**24


@dataclass(frozen=True, slots=True)
class Plan:
    """Resizes [height, width] to [resized_height, resized_width], then crops a window of it.

    The window begins at `top` and `left` and has `crop_height` x `crop_width` pixels; where it
    reaches beyond the resized picture it is black.
    """

    height: int
    width: int
    resized_height: int
    resized_width: int
    top: int
    left: int
    crop_height: int
    crop_width: int

    @classmethod
    def whole(cls, height: int, width: int) -> "Plan":
        """Keeps the picture as it is."""
        return cls(height, width, height, width, 0, 0, height, width)

    @classmethod
    def fitting(cls, height: int, width: int, input: network_pb2.InputGeometry) -> "Plan":
        """The shorter side to `input.resize`, then the centre, rounded as torchvision rounds."""
        long = int(input.resize * max(height, width) / min(height, width))
        tall = height > width
        resized_height, resized_width = (long, input.resize) if tall else (input.resize, long)
        top = _centre(resized_height, input.height)
        left = _centre(resized_width, input.width)
        resized = (height, width, resized_height, resized_width)
        return cls(*resized, top, left, input.height, input.width)

    @property
    def resizes(self) -> bool:
        """Whether the size changes before the crop."""
        return (self.height, self.width) != (self.resized_height, self.resized_width)

    @property
    def is_huge(self) -> bool:
        """Whether the resized picture is too large to be computed as a whole."""
        return self.resizes and self.resized_height * self.resized_width > MAX_RESIZED

    def box(self) -> tuple[float, float, float, float]:
        """The window in the picture's own pixels: x0, y0, x1, y1."""
        return self.source(self.left, self.top, self._right, self._bottom)

    def everything(self) -> tuple[int, int, int, int]:
        """The whole resized picture: left, top, right, bottom."""
        return 0, 0, self.resized_width, self.resized_height

    def inside(self) -> tuple[int, int, int, int]:
        """The part of the window that is in the resized picture: left, top, right, bottom."""
        return (
            max(self.left, 0),
            max(self.top, 0),
            min(self._right, self.resized_width),
            min(self._bottom, self.resized_height),
        )

    def source(self, *edges: int) -> tuple[float, float, float, float]:
        """Edges (left, top, right, bottom) of the resized picture in the picture's own pixels."""
        left, top, right, bottom = edges
        x, y = self.width / self.resized_width, self.height / self.resized_height
        return left * x, top * y, right * x, bottom * y

    @property
    def _right(self) -> int:
        return self.left + self.crop_width

    @property
    def _bottom(self) -> int:
        return self.top + self.crop_height


def _centre(side: int, crop: int) -> int:
    """Where a crop begins; negative where the side is padded. Halves are rounded to even."""
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)
