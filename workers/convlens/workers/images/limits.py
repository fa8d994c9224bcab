"""How large a picture may be, judged before anything is decoded."""

from dataclasses import dataclass

from convlens.contract import ErrorReason, Failure
from convlens.v1 import network_pb2


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest picture that is decoded: bytes of its file, pixels in all, pixels of a side."""

    encoded_bytes: int = 32 * 2**20
    pixels: int = 50_000_000
    side: int = 16_384

    def check_bytes(self, count: int, input: network_pb2.InputGeometry) -> None:
        """Raises IMAGE_TOO_LARGE where a file of `count` bytes is above the limit."""
        if count > self.encoded_bytes:
            allowed = f"{self.encoded_bytes} bytes"
            raise _too_large(f"its file has {count} bytes", allowed, input)

    def check_size(self, height: int, width: int, input: network_pb2.InputGeometry) -> None:
        """Raises IMAGE_TOO_LARGE where a picture of this size is above the limits."""
        if height * width > self.pixels or max(height, width) > self.side:
            claim = f"it has {in_words(height, width)} pixels (height x width)"
            allowed = f"{self.pixels} pixels in all and {self.side} on a side"
            raise _too_large(claim, allowed, input)


def in_words(height: int, width: int) -> str:
    """A size as errors name it: "224 x 224"."""
    return f"{height} x {width}"


def _too_large(detail: str, limit: str, input: network_pb2.InputGeometry) -> Failure:
    return Failure(
        ErrorReason.ERROR_REASON_IMAGE_TOO_LARGE,
        detail=detail,
        limit=limit,
        input=in_words(input.height, input.width),
    )
