"""What an attack did to an image, as the SDK returns it, and what a stream of attacks tells."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client._attack_drawing import Side, attack_sheet
from convlens.client._drawing import Pixels, pixels_of, png_of
from convlens.client._errors import ConvLensError, Internal, from_status
from convlens.client._results import (
    ClassScore,
    Cost,
    Receipt,
    cost_of,
    plain,
    receipt_of,
    scores_of,
)
from convlens.client._shown import Shown
from convlens.client._tensors import array_of
from convlens.v1 import adversarial_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

# How a status is written under a picture.
STATUS_WORDS = {
    "succeeded": "succeeded",
    "failed": "this attack failed",
    "already_misclassified": "was misclassified already",
    "steps_exhausted": "all steps used, still improving",
    "deadline": "the time was over",
    "in_progress": "the best so far",
}
ROUNDED_WORDS = {
    "succeeded": "succeeds in 8 bits",
    "failed": "does not succeed in 8 bits",
    "not_representable": "budget too small for 8 bits",
    "not_judged": "not judged in 8 bits",
    "not_applicable": "no picture in 8 bits",
}


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one picture is from another, over all values of pixels in [0, 1].

    `l0` is how many values differ, `linf` the largest difference, `distortion` the root of the mean
    squared difference (Szegedy's).
    """

    l0: int
    l1: float
    l2: float
    linf: float
    distortion: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttackVerdict(Shown):
    """What an attack did to one image, by the network's own word.

    `status` is "succeeded", "failed", "already_misclassified", "steps_exhausted" or "deadline", by
    the pixels as computed; "in_progress" while a stream still improves it. `rounded_status` is that
    of the PNG: "succeeded", "failed", "not_representable", "not_judged" where the network was not
    asked, or "not_applicable" for a network of kind "linear". Failure shows that this attack found
    nothing, not that there is nothing; `flags` are reasons to doubt it: "zero_gradient",
    "black_box_stronger", "randomness", "probability_outputs".

    `before`, `after` and `after_rounding` are the best classes of the image, of the adversarial
    pixels, and of the PNG. It shows itself as a sheet: the original, the change made visible, the
    adversarial picture, and what the network says of both.
    """

    status: str
    rounded_status: str
    #: Index of the class that the attack leads away from, and of the one that it was to lead to.
    original_class_index: int
    target_class_index: int | None
    before: tuple[ClassScore, ...]
    after: tuple[ClassScore, ...]
    after_rounding: tuple[ClassScore, ...]
    #: The adversarial picture as a lossless file, and what was attacked, in 8 bits too; both empty
    #: for a network of kind "linear".
    png: bytes
    original_png: bytes
    #: The adversarial pixels, float32 [height, width, channels], with `return_pixels`. For a
    #: network of kind "linear" the vector, float32 [features], in any case.
    pixels: NDArray[np.float32] | None
    #: With which geometry the picture is to be sent back.
    geometry: str
    distance: Distance
    rounded_distance: Distance
    steps: int
    #: What the attack asked of the network.
    cost: Cost
    #: Title of the attack that succeeded.
    succeeded_by: str
    flags: tuple[str, ...]
    #: How the answer came about; None in a stream, whose end brings it.
    receipt: Receipt | None

    @property
    def succeeded(self) -> bool:
        """Whether the pixels as computed fool the network."""
        return self.status == "succeeded"

    @property
    def picture(self) -> "PILImage":
        """The adversarial picture in 8 bits, as Pillow has it; LookupError where there is none."""
        from PIL import Image

        self._require_picture()
        with Image.open(BytesIO(self.png)) as image:
            image.load()
            return image

    @property
    def change(self) -> NDArray[np.float64]:
        """What was added, [height, width, channels]: to the pixels where they came, or to the PNG.

        LookupError for a network of kind "linear".
        """
        self._require_picture()
        new = pixels_of(self.png) / 255 if self.pixels is None else self.pixels.astype(np.float64)
        old = pixels_of(self.original_png) / 255
        # A network of one channel gets one of three that are equal.
        return new - old[:, :, : new.shape[2]]

    def __repr__(self) -> str:
        after = f" -> {self.after[0]}" if self.after else ""
        before = f": {self.before[0]}" if self.before else ""
        return f"<AttackVerdict {self.status}{before}{after}, L2 {self.distance.l2:.3g}>"

    def numbers(self) -> NDArray[Any]:
        if self.pixels is None:
            raise LookupError("The pixels did not come; ask for them with return_pixels=True.")
        return self.pixels

    def _pixels(self) -> Pixels:
        self._require_picture()
        return attack_sheet(
            Side("original", pixels_of(self.original_png), self.before),
            Side(
                "after the attack, in 8 bits",
                pixels_of(self.png),
                self.after_rounding or self.after,
            ),
            self.change,
            self._words(),
        )

    def _words(self) -> tuple[str, ...]:
        """What there is to say beside the pictures."""
        by = f" ({self.succeeded_by})" if self.succeeded_by else ""
        far = self.distance if self.pixels is not None else self.rounded_distance
        rounded = ROUNDED_WORDS.get(self.rounded_status, self.rounded_status)
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return (
            f"{STATUS_WORDS.get(self.status, self.status)}{by}",
            f"{rounded}: {self.after_rounding[0]}" if self.after_rounding else rounded,
            f"L2 {far.l2:.4g}, Linf {far.linf:.4g} = {far.linf * 255:.3g}/255",
            f"{far.l0} values differ; {steps}",
        )

    def _as_png(self) -> bytes:
        return png_of(self._pixels())

    def _repr_png_(self) -> bytes | None:
        return self._as_png() if self.png else None

    def _require_picture(self) -> None:
        if not self.png:
            raise LookupError("A network of kind linear has no pictures, but numbers in `pixels`.")


@dataclass(frozen=True, slots=True)
class AttackProgress:
    """How far a stream has come: images finished and fooled, and what was asked of the network."""

    images_done: int
    images_fooled: int
    images: int
    cost: Cost
    #: What the request is expected to ask at most.
    estimated_cost: Cost


@dataclass(frozen=True, slots=True)
class AttackItem:
    """What became of an image, or the best so far; the last of each image `is_final`.

    `verdict` is None where the image has no answer, and `error` says why.
    """

    image_index: int
    is_final: bool
    verdict: AttackVerdict | None
    error: ConvLensError | None


@dataclass(frozen=True, slots=True)
class AttackDone:
    """The end of a stream."""

    receipt: Receipt = field(repr=False)
    estimated_cost: Cost


AttackEvent: TypeAlias = AttackProgress | AttackItem | AttackDone


def verdict(message: pb.AttackVerdict, receipt: Receipt | None) -> AttackVerdict:
    """One image's verdict."""
    return plain(
        AttackVerdict,
        message,
        before=scores_of(message.before),
        after=scores_of(message.after),
        after_rounding=scores_of(message.after_rounding),
        pixels=array_of(message.pixels) if message.HasField("pixels") else None,
        distance=plain(Distance, message.distance),
        rounded_distance=plain(Distance, message.rounded_distance),
        cost=cost_of(message.cost),
        receipt=receipt,
    )


def attack_event(message: pb.AttackStreamResponse, images: int, request_id: str) -> AttackEvent:
    """What one message of a stream tells of so many images."""
    match message.WhichOneof("event"):
        case "progress":
            return plain(
                AttackProgress,
                message.progress,
                cost=cost_of(message.progress.cost),
                estimated_cost=cost_of(message.progress.estimated_cost),
            )
        case "item":
            return _item(message.item, images, request_id)
        case "done":
            cost = cost_of(message.done.estimated_cost)
            return AttackDone(receipt_of(message.done.receipt), cost)
        case _:
            raise Internal("The server sent a message of a stream that tells nothing.")


def _item(message: pb.AttackItem, images: int, request_id: str) -> AttackItem:
    if message.image_index >= images:
        raise Internal("The server answered an image that was not sent.")
    result = message.result
    answered = result.WhichOneof("outcome") == "verdict"
    return AttackItem(
        message.image_index,
        message.is_final,
        verdict(result.verdict, None) if answered else None,
        None if answered else from_status(result.error, request_id=request_id),
    )
