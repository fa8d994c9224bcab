"""Pictures that were made for a network, as the SDK returns them, and what is told on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import Pixels, enlarged, montage, pixels_of, png_of
from convlens.client._errors import ConvLensError, Internal, from_status
from convlens.client._results import ClassScore, Cost, Receipt, cost_of, plain, receipt_of, score_of
from convlens.client._shown import Shown
from convlens.client._tensors import array_of
from convlens.v1 import synthesis_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One term of a loss, with its weight and sign: "score", "activation", "total variation"."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class PictureProgress:
    """How one picture stands; the sum of the `terms` is made small.

    `objective` is what is looked for: the score of the class, the activation of the unit, or the
    relative distance of the codes. `probability` is None where no class is meant, `gradient_norm`
    where evolution needs none.
    """

    picture_index: int
    terms: tuple[LossTerm, ...]
    objective: float
    probability: float | None
    gradient_norm: float | None

    @property
    def loss(self) -> float:
        """What is made small."""
        return sum(term.value for term in self.terms)


@dataclass(frozen=True, slots=True)
class SynthesisProgress:
    """How far the work has come, in steps or generations; those before a checkpoint count."""

    step: int
    #: Steps or generations at most.
    steps: int
    pictures: tuple[PictureProgress, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class SynthesisPreview:
    """What the pictures look like after so many steps.

    `pngs` has each picture in order; a class of an evolution without one yet has empty bytes.
    Notebooks show all of them as one.
    """

    step: int
    pngs: tuple[bytes, ...] = field(repr=False)
    #: Given to another call with the same question, goes on from here.
    checkpoint: bytes = field(repr=False)

    @property
    def images(self) -> "tuple[PILImage | None, ...]":
        """The pictures as Pillow has them, decoded now; None for one that is not there yet."""
        return tuple(_decoded(png) if png else None for png in self.pngs)

    def _repr_png_(self) -> bytes | None:
        return sheet_of(self.pngs)


@dataclass(frozen=True, slots=True, eq=False)
class SynthesizedPicture(Shown):
    """A picture that was made, with what the network says of it.

    `target` is the class that it was made for, None where there is none. `prediction` is of the
    pixels, `rounded_prediction` of the PNG; both are None where the time was over before the
    network was asked. `activation` is what a unit maximization reached;
    `code_distance` the squared distance of an inversion's code from the given one, relative to
    that, and `psnr` in decibels how near the picture is to the inverted one; `confident` whether
    the wanted confidence was reached. Each is None where it makes no sense.

    A picture that could not be made has an `error`, and nothing else.
    """

    #: Empty for a class of an evolution that had no picture when the time was over.
    png: bytes = field(repr=False)
    #: float32 [height, width, channels] in [0, 1], with `return_pixels`.
    pixels: NDArray[np.float32] | None = field(repr=False)
    target: ClassScore | None
    prediction: ClassScore | None
    rounded_prediction: ClassScore | None
    activation: float | None
    code_distance: float | None
    psnr: float | None
    confident: bool | None
    #: Steps or generations it took.
    steps: int
    error: ConvLensError | None = None

    def numbers(self) -> NDArray[Any]:
        """The pixels; LookupError where they did not come, or the picture's error."""
        self._require_picture()
        if self.pixels is None:
            raise LookupError("The pixels did not come; ask for them with return_pixels=True.")
        return self.pixels

    def _pixels(self) -> Pixels:
        self._require_picture()
        return pixels_of(self.png)

    def _as_png(self) -> bytes:
        self._require_picture()
        return self.png

    def _require_picture(self) -> None:
        if self.error is not None:
            raise self.error
        if not self.png:
            raise LookupError("There is no picture; the time was over before its class had one.")

    def _repr_png_(self) -> bytes | None:
        return self.png or None


@dataclass(frozen=True, slots=True, eq=False)
class SynthesisDone:
    """The end: a picture for each target or reconstruction, in order.

    It `is_partial` where the deadline came before the method was done. Notebooks show all pictures
    as one.
    """

    pictures: tuple[SynthesizedPicture, ...]
    is_partial: bool
    #: Given to a call for more steps, goes on from here.
    checkpoint: bytes = field(repr=False)
    receipt: Receipt = field(repr=False)
    #: What the request was expected to ask of the network at most.
    estimated_cost: Cost

    def _repr_png_(self) -> bytes | None:
        return sheet_of([picture.png for picture in self.pictures])


@dataclass(frozen=True, slots=True)
class SynthesisItem:
    """A picture that is done; one that could not be made has an `error`."""

    #: Position among the targets or reconstructions, from 0.
    picture_index: int
    picture: SynthesizedPicture


SynthesisEvent: TypeAlias = SynthesisProgress | SynthesisPreview | SynthesisItem | SynthesisDone


def synthesis_event(
    message: pb.SynthesizeResponse, made: dict[int, SynthesizedPicture], request_id: str
) -> SynthesisEvent:
    """What one message of a synthesis tells; `made` has the pictures so far, and is added to."""
    match message.WhichOneof("event"):
        case "progress":
            return plain(
                SynthesisProgress,
                message.progress,
                pictures=tuple(_standing(each) for each in message.progress.pictures),
                cost=cost_of(message.progress.cost),
            )
        case "preview":
            return plain(SynthesisPreview, message.preview)
        case "item":
            number = message.item.picture_index
            made[number] = _outcome(message.item, request_id)
            return SynthesisItem(number, made[number])
        case "done":
            if sorted(made) != [*range(len(made))]:
                raise Internal("The server left out a picture.")
            return plain(
                SynthesisDone,
                message.done,
                pictures=tuple(made[number] for number in sorted(made)),
                receipt=receipt_of(message.done.receipt),
                estimated_cost=cost_of(message.done.estimated_cost),
            )
        case _:
            raise Internal("The server sent a message of a stream that tells nothing.")


def sheet_of(pngs: Sequence[bytes]) -> bytes | None:
    """All pictures as one PNG, white where one is not there yet; None where none is."""
    found = [enlarged(pixels_of(png)) if png else None for png in pngs]
    there = [pixels for pixels in found if pixels is not None]
    if not there:
        return None
    empty = np.full_like(there[0], 255)
    return png_of(montage([empty if pixels is None else pixels for pixels in found]))


def _standing(message: pb.PictureProgress) -> PictureProgress:
    terms = tuple(plain(LossTerm, term) for term in message.terms)
    return plain(PictureProgress, message, terms=terms)


def _outcome(message: pb.SynthesisItem, request_id: str) -> SynthesizedPicture:
    if message.WhichOneof("outcome") == "picture":
        return _picture(message.picture)
    error = from_status(message.error, request_id=request_id)
    return SynthesizedPicture(b"", *(None,) * 8, steps=0, error=error)


def _picture(message: pb.SynthesizedPicture) -> SynthesizedPicture:
    return plain(
        SynthesizedPicture,
        message,
        error=None,
        pixels=array_of(message.pixels) if message.HasField("pixels") else None,
        target=score_of(message.target) if message.HasField("target") else None,
        prediction=score_of(message.prediction) if message.HasField("prediction") else None,
        rounded_prediction=score_of(message.rounded_prediction)
        if message.HasField("rounded_prediction")
        else None,
    )


def _decoded(png: bytes) -> "PILImage":
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        image.load()
        return image
