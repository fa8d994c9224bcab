"""The question of a synthesis: what a checkpoint belongs to."""

from google.protobuf.message import Message

from convlens.v1 import synthesis_pb2 as pb

# Fields that may be others when a question is asked again: how long to go on, and what to tell.
FREE = frozenset(
    {
        *("steps", "evaluations", "network", "checkpoint"),
        *("progress_every", "preview_every", "return_pixels"),
        *("allow_partial", "estimate_only"),
    }
)


def question_alone(request: pb.SynthesizeRequest) -> bytes:
    """What requests have in common whose checkpoints fit one another, on the same network.

    `request` has every default filled in.
    """
    asked = pb.SynthesizeRequest()
    asked.CopyFrom(request)
    _forget(asked)
    return asked.SerializeToString(deterministic=True)


def _forget(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in FREE:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            _forget(value)
