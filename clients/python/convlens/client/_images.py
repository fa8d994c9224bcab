"""Turns whatever people hold a picture in into the contract's Image."""

import os
import stat
from collections.abc import Sequence
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    TypeGuard,
    cast,
    runtime_checkable,
)

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import (
    ImageFileError,
    ImageFileNotFound,
    InvalidImage,
    InvalidRequest,
    MessageTooLarge,
    local,
)
from convlens.client._transport import MOST_BYTES
from convlens.contract import ErrorReason, Failure
from convlens.v1 import image_pb2, tensor_pb2

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Geometry: TypeAlias = Literal["network", "as_is"]
GEOMETRIES = {"network": image_pb2.GEOMETRY_NETWORK, "as_is": image_pb2.GEOMETRY_AS_IS}
# The modes of PIL images that a PNG holds as they are.
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
# Those that become another one, without loss to what the server would see.
CONVERTED_MODES = {
    "CMYK": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
    "La": "LA",
    "PA": "RGBA",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}
# 16 bits in another order of bytes than a PNG wants them.
DEEP_MODES = frozenset({"I;16B", "I;16L", "I;16N"})
WANTED = (
    "uint8, or float32 in [0, 1], of shape [height, width, 3] or [height, width, 1], or float32 of "
    "shape [features] for a network of kind linear"
)
# What every .npy file begins with.
NPY = b"\x93NUMPY"
ODD_FILES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@runtime_checkable
class ArrayLike(Protocol):
    """Whatever numpy can read: its own arrays, JAX's, torch's."""

    def __array__(self) -> NDArray[Any]: ...


@runtime_checkable
class Readable(Protocol):
    """A file that is open in binary mode, or anything that reads like one."""

    def read(self) -> bytes: ...


class TorchTensor(Protocol):
    """As much of torch.Tensor as is needed to get its numbers, so that torch is never imported."""

    def detach(self) -> "TorchTensor": ...
    def cpu(self) -> "TorchTensor": ...
    def float(self) -> "TorchTensor": ...
    def numpy(self) -> NDArray[Any]: ...


ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | PILImage | ArrayLike | Readable"
)


def is_many(images: object) -> TypeGuard[Sequence[ImageInput]]:
    """Whether `images` is a list of images rather than one."""
    return isinstance(images, Sequence) and not isinstance(
        images, str | bytes | bytearray | memoryview
    )


def to_image(
    source: ImageInput, geometry: Geometry = "network", max_bytes: int = MOST_BYTES
) -> image_pb2.Image:
    """The contract's Image of `source`.

    Paths, bytes and open files go as they are, PIL images as PNG, numpy arrays and torch tensors
    as raw pixels: uint8, or floating point in [0, 1], of shape [height, width], [height, width, 1]
    or [height, width, 3]; torch tensors also with the channels first. A PIL image of mode F goes as
    an array does, and so does what a .npy file holds. A vector of floating point, [features], is
    for a network of kind linear. Raises InvalidImage where `source` is no such thing,
    ImageFileError where its file cannot be read, MessageTooLarge where that or the numbers of an
    array have more than `max_bytes`.
    """
    if geometry not in GEOMETRIES:
        raise InvalidImage(f"geometry is {geometry!r}; it must be 'network' or 'as_is'.")
    chosen = GEOMETRIES[geometry]
    if isinstance(source, str | os.PathLike):
        return _of_file(read_file(Path(source), max_bytes), chosen, max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_file(bytes(source), chosen, max_bytes)
    if _is_pil(source):
        return _of_pil(source, chosen, max_bytes)
    if _is_torch(source):
        pixels = _channels_last(_numbers(source))
        return image_pb2.Image(tensor=_tensor(pixels, max_bytes), geometry=chosen)
    if isinstance(source, ArrayLike):
        return image_pb2.Image(tensor=_tensor(np.asarray(source), max_bytes), geometry=chosen)
    if isinstance(source, Readable):
        return _of_file(_read_open(source), chosen, max_bytes)
    raise InvalidImage(
        f"An image cannot be a {type(source).__name__}; give a path, bytes, an open file, a PIL "
        "image, a numpy array or a torch tensor, or a list of those."
    )


def _of_file(
    data: bytes, geometry: image_pb2.Geometry.ValueType, max_bytes: int
) -> image_pb2.Image:
    """What a file holds: a picture, which the server decodes, or an array of numpy's."""
    if not data.startswith(NPY):
        return image_pb2.Image(encoded=data, geometry=geometry)
    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise InvalidImage(f"The .npy file cannot be read: {error}.") from error
    return image_pb2.Image(tensor=_tensor(array, max_bytes), geometry=geometry)


def read_file(path: Path, max_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; what has no end, or more than is allowed, is not opened."""
    name = repr(str(path))
    try:
        status = path.stat()
        if odd := ODD_FILES.get(stat.S_IFMT(status.st_mode)):
            raise ImageFileError(f"The file {name} is {odd}; give a regular file.")
        if status.st_size > max_bytes:
            raise _too_large(f"the file {name} has {status.st_size} bytes of at most {max_bytes}")
        return path.read_bytes()
    except InvalidRequest:
        raise
    except FileNotFoundError:
        raise ImageFileNotFound(f"There is no file {name}; check the path.") from None
    except OSError as error:
        problem = error.strerror or error
        raise ImageFileError(f"The file {name} cannot be read: {problem}.") from error
    except ValueError as error:
        raise ImageFileError(f"{name} is no path: {error}.") from error


def _read_open(file: Readable) -> bytes:
    if isinstance(file, TextIOBase):
        raise InvalidImage("The file is open for text; open it for bytes, with the mode 'rb'.")
    try:
        data = cast(object, file.read())
    except (OSError, ValueError) as error:
        raise ImageFileError(f"The open file cannot be read: {error}.") from error
    if not isinstance(data, bytes | bytearray):
        kind = type(data).__name__
        raise InvalidImage(f"The open file gives {kind} where bytes were expected.")
    return bytes(data)


def _is_pil(source: object) -> "TypeGuard[PILImage]":
    # By its name, so that PIL is imported only where somebody has a PIL image.
    return any(cls.__module__ == "PIL.Image" for cls in type(source).__mro__)


def _of_pil(
    image: "PILImage", geometry: image_pb2.Geometry.ValueType, max_bytes: int
) -> image_pb2.Image:
    if image.mode == "F":
        return image_pb2.Image(tensor=_tensor(_shares(image), max_bytes), geometry=geometry)
    return image_pb2.Image(encoded=_png(image), geometry=geometry)


def _shares(image: "PILImage") -> NDArray[np.float32]:
    """The pixels of a mode that says nothing of their scale: only [0, 1] is taken."""
    from PIL.ImageOps import exif_transpose

    pixels = np.asarray(exif_transpose(image))
    low, high = pixels.min(initial=1), pixels.max(initial=0)
    # Not the other way round: NaN compares false with everything.
    if not (low >= 0 and high <= 1):
        raise _no_image(f"the mode of the PIL image is F, and its values are {low:g} to {high:g}")
    return pixels


def _png(image: "PILImage") -> bytes:
    """Lossless; orientation goes along, so the server sees what the file would have shown."""
    buffer = BytesIO()
    try:
        _for_png(image).save(buffer, format="PNG", compress_level=1, exif=image.getexif())
    except InvalidImage:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidImage(f"The PIL image cannot be read: {error}.") from error
    return buffer.getvalue()


def _for_png(image: "PILImage") -> "PILImage":
    """The image in a mode that a PNG can hold, and that means the same."""
    if image.mode in PNG_MODES:
        return image
    if image.mode in CONVERTED_MODES:
        return image.convert(CONVERTED_MODES[image.mode])
    if image.mode in DEEP_MODES:
        from PIL.Image import fromarray

        return fromarray(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        raise InvalidImage(
            "The mode of the PIL image is I, which does not say what number is white; convert it "
            "to I;16 (65535 is white) or to L (255 is white)."
        )
    known = sorted(PNG_MODES | set(CONVERTED_MODES) | DEEP_MODES | {"F"})
    raise InvalidImage(f"The mode of the PIL image is {image.mode}; use one of {', '.join(known)}.")


def _is_torch(source: object) -> TypeGuard[TorchTensor]:
    return type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach")


def _numbers(tensor: TorchTensor) -> NDArray[Any]:
    here = tensor.detach().cpu()
    try:
        return here.numpy()
    except TypeError:
        # numpy has no bfloat16.
        return here.float().numpy()


def _channels_last(pixels: NDArray[Any]) -> NDArray[Any]:
    """Torch's [channels, height, width] as [height, width, channels]; what is so stays so."""
    first = pixels.ndim == 3 and pixels.shape[0] in (1, 3)
    return np.moveaxis(pixels, 0, -1) if first else pixels


def _tensor(pixels: NDArray[Any], max_bytes: int) -> tensor_pb2.Tensor:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    is_vector = pixels.ndim == 1 and np.issubdtype(pixels.dtype, np.floating)
    is_picture = pixels.ndim == 3 and pixels.shape[2] in (1, 3)
    if not (is_vector or is_picture) or not pixels.size:
        raise _no_image(f"its shape is {list(pixels.shape)}{_advice(pixels.shape)}")
    size = pixels.size * (1 if pixels.dtype == np.uint8 else 4)
    if size > max_bytes:
        # Before it is copied, which takes half a minute of one that is large enough.
        raise _too_large(
            f"an array of {list(pixels.shape)} has {size} bytes of at most {max_bytes}"
        )
    if pixels.dtype == np.uint8:
        dtype, data = tensor_pb2.DATA_TYPE_UINT8, pixels.tobytes()
    elif np.issubdtype(pixels.dtype, np.floating):
        dtype, data = tensor_pb2.DATA_TYPE_FLOAT32, pixels.astype("<f4", copy=False).tobytes()
    else:
        raise _no_image(f"its numbers are {pixels.dtype}")
    return tensor_pb2.Tensor(dtype=dtype, shape=pixels.shape, data=data)


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return "; the numbers of a vector must be floating point"
    if len(shape) == 4:
        return "; for several images give a list, as list(array) does"
    if len(shape) == 3 and shape[0] in (1, 3):
        return "; move the channels last, as numpy.moveaxis(array, 0, -1) does"
    return ""


def _too_large(detail: str) -> Exception:
    reason = ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE
    return local(MessageTooLarge, Failure(reason, detail=detail))


def _no_image(detail: str) -> Exception:
    reason = ErrorReason.ERROR_REASON_TENSOR_INVALID
    return local(InvalidImage, Failure(reason, detail=detail, wanted=WANTED))
