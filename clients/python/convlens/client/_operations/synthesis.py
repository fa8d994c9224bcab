"""Operations of the SynthesisService."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from functools import partial
from typing import Unpack

from convlens.client._operations.base import Last, OnError, Watch, message_of, with_options
from convlens.client._operations.per_image import check_on_error, path_of
from convlens.client._operations.synthesizing import (
    Synthesis,
    SynthesisOptions,
    synthesis_request,
)
from convlens.client._results import Cost
from convlens.client._synthesis import (
    SynthesisDone,
    SynthesisEvent,
    SynthesizedPicture,
    synthesis_event,
)
from convlens.client._transport import Settings
from convlens.v1 import synthesis_pb2 as pb

RPC = pb.DESCRIPTOR.services_by_name["SynthesisService"].methods_by_name["Synthesize"]


@with_options(synthesis_request)
def synthesize(
    settings: Settings,
    method: Synthesis,
    *,
    progress_every: int | None = None,
    preview_every: int | None = None,
    timeout: float | None = None,
    **options: Unpack[SynthesisOptions],
) -> Watch[SynthesisEvent]:
    """Makes the pictures that a network answers to, and tells of them while they grow.

    `method` is one of `convlens.client.methods`: `ClassModel()` with a `target`,
    `UnitMaximization(layer="conv3", unit=FeatureUnit(map_index=3))` or one with a `direction`
    in place of the unit, `Inversion(layer="pool1")` with an `image` or a `code`, and
    `FoolingGradient()`, `FoolingDirect()` or `FoolingCppn()` with none or a list of classes as
    `target`, or
    `Fooling(confidence=0.999, gradient=FoolingGradient())`.

    `target` is a class by index or label. `image` is a picture as `classify` takes it, with its
    `geometry`; `code` and `direction` are numbers, in the layer's own shape and [channels].
    `canvas` is the pictures' (height, width), or the side of a square; left out, the network's own.

    Gives SynthesisProgress after every `progress_every` steps, a SynthesisPreview with a checkpoint
    after every `preview_every`, 0 for none, a SynthesisItem for each picture that is done, or could
    not be made, and at the end SynthesisDone with all of them. `return_pixels` brings the pixels as
    float32 beside each PNG. Closing
    the generator cancels the call, and the server stops within a step. `timeout` is for the whole
    stream, in seconds; left out, the server's own limit holds. With `allow_partial` what there is
    by then comes instead of an error: of evolution the best picture of each class, of an inversion
    the one of the lowest loss, of fooling by gradient the latest or the surer end of an earlier
    climb, and of the other methods the latest.

    Give the `checkpoint` of a preview or of an end, and everything else as before, to go on from
    there: the pictures become what they would have become, bit for bit. More steps may be asked
    for.
    """
    request = synthesis_request(settings, method, **options)
    told = {"progress_every": progress_every, "preview_every": preview_every}
    request.MergeFrom(message_of(pb.SynthesizeRequest, **told))
    return _watch(request, timeout)


@with_options(synthesis_request)
def synthesize_to_end(
    settings: Settings,
    method: Synthesis,
    *,
    on_error: OnError = "raise",
    timeout: float | None = None,
    **options: Unpack[SynthesisOptions],
) -> Last[SynthesisDone]:
    """Makes pictures as `synthesize` does, and returns the end alone.

    `on_error="raise"` raises the error of the first picture that could not be made, whose `index`
    says which; with `on_error="return"` that picture has it as its `error`. The other parameters
    are those of `synthesize`, less `progress_every` and `preview_every`.
    """
    check_on_error(on_error)
    request = synthesis_request(settings, method, **options)
    request.preview_every = 0
    return Last(_watch(request, timeout), partial(_judged, on_error=on_error))


def _judged(done: SynthesisDone, on_error: OnError) -> SynthesisDone:
    for number, picture in enumerate(done.pictures):
        if picture.error is not None and on_error == "raise":
            picture.error.index = number if len(done.pictures) > 1 else None
            raise picture.error
    return done


@with_options(synthesis_request)
def estimate_synthesis(
    settings: Settings,
    method: Synthesis,
    *,
    timeout: float | None = None,
    **options: Unpack[SynthesisOptions],
) -> Last[Cost]:
    """Says what `synthesize` would ask of the network at most, and computes nothing.

    The parameters are those of `synthesize`, less `progress_every` and `preview_every`.
    """
    request = synthesis_request(settings, method, **options)
    request.estimate_only = True
    return Last(_watch(request, timeout or settings.timeout), lambda done: done.estimated_cost)


def _watch(request: pb.SynthesizeRequest, timeout: float | None) -> Watch[SynthesisEvent]:
    made: dict[int, SynthesizedPicture] = {}

    def decode(data: bytes, request_id: str) -> SynthesisEvent:
        return synthesis_event(pb.SynthesizeResponse.FromString(data), made, request_id)

    return Watch(path_of(RPC), request, decode, SynthesisDone, timeout)
