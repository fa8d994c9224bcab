"""What is told of pictures while they grow, and at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.receipt_pb2 import Cost
from convlens.v1.target_pb2 import ClassScore
from convlens.workers.images.encoding import in_8_bits, pixels_of, png
from convlens.workers.synthesizers import Growth, Sketch
from convlens.workers.targets import class_scores


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made, and the scores [pictures, classes] of its pixels and of those in 8 bits.

    A partial one ended at the deadline, and its pictures were not shown to the network.
    """

    growth: Growth
    scores: Tensor | None = None
    rounded_scores: Tensor | None = None
    is_partial: bool = False

    @cached_property
    def pictures(self) -> Sequence[tuple[Sketch | None, tuple[Tensor, Tensor] | None]]:
        """Each picture with its two answers [classes]; None for a class without one."""
        answers: Iterator[tuple[Tensor, Tensor]] = iter(())
        if self.scores is not None and self.rounded_scores is not None:
            answers = zip(self.scores, self.rounded_scores, strict=True)
        return [
            (sketch, next(answers, None) if sketch is not None else None)
            for sketch in self.growth.sketches
        ]


def progress_of(
    step: int, steps: int, sketches: Sequence[Sketch | None], spent: Cost
) -> pb.SynthesisProgress:
    """How far the work has come."""
    pictures = [_progress(n, sketch) for n, sketch in enumerate(sketches) if sketch is not None]
    return pb.SynthesisProgress(step=step, steps=steps, pictures=pictures, cost=spent)


def _progress(index: int, sketch: Sketch) -> pb.PictureProgress:
    return pb.PictureProgress(
        picture_index=index,
        terms=[pb.LossTerm(name=name, value=value) for name, value in sketch.terms.items()],
        objective=sketch.objective,
        probability=sketch.probability,
        gradient_norm=sketch.gradient_norm,
    )


def preview_of(
    step: int, sketches: Sequence[Sketch | None], checkpoint: bytes
) -> pb.SynthesisPreview:
    """What the pictures look like so far."""
    pngs = [png(in_8_bits(sketch.pixels)) if sketch else b"" for sketch in sketches]
    return pb.SynthesisPreview(step=step, pngs=pngs, checkpoint=checkpoint)


def picture_of(
    sketch: Sketch | None,
    target: int | None,
    scores: tuple[Tensor, Tensor] | None,
    labels: Sequence[str],
    *,
    with_pixels: bool,
) -> pb.SynthesizedPicture:
    """A picture at the end with what the network says of it, as it is and in 8 bits.

    Without a sketch, the class that there is none for."""
    made = pb.SynthesizedPicture()
    if target is not None:
        made.target.class_index, made.target.label = target, labels[target]
        if sketch and sketch.probability is not None:
            made.target.probability = sketch.probability
    if sketch is None:
        return made
    made.png = png(in_8_bits(sketch.pixels))
    if with_pixels:
        made.pixels.CopyFrom(pixels_of(sketch.pixels))
    made.steps = sketch.steps
    _copy_known(made, sketch)
    if scores is not None:
        made.prediction.CopyFrom(_best(scores[0], labels))
        made.rounded_prediction.CopyFrom(_best(scores[1], labels))
        if target is not None:
            made.target.CopyFrom(class_scores([target], scores[0], labels)[0])
    return made


def _best(scores: Tensor, labels: Sequence[str]) -> ClassScore:
    return class_scores([int(scores.argmax())], scores, labels)[0]


def _copy_known(made: pb.SynthesizedPicture, sketch: Sketch) -> None:
    known = {
        "activation": sketch.activation,
        "code_distance": sketch.code_distance,
        "psnr": sketch.psnr,
        "confident": sketch.confident,
    }
    for field, value in known.items():
        if value is not None:
            setattr(made, field, value)
