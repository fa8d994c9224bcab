"""The canvas that pictures grow on, and what methods need to know of it and of the network."""

from math import prod

import torch

from convlens.contract import ErrorReason, Failure
from convlens.contract.rules import rule_of
from convlens.v1 import synthesis_pb2 as pb
from convlens.workers.network import ServedNetwork
from convlens.workers.synthesizers import Memory, Task

# For each value of a picture: in a checkpoint the picture, two moments of its gradient and the best
# one so far; in a preview its PNG too; at the end its pixels where asked for, with the PNG.
CHECKPOINT_BYTES = 4 * 4
PREVIEW_BYTES = CHECKPOINT_BYTES + 1
BYTES = PREVIEW_BYTES + 4
OTHER_BYTES = 65_536
# Of a checkpoint that the next request may bring.
MOST_CHECKPOINT_BYTES = rule_of(
    pb.SynthesizeRequest.DESCRIPTOR.fields_by_name["checkpoint"]
).max_length
# Of an answer that are made in a second, on a slow machine.
PACE = 60e6


def fill_in(canvas: pb.Canvas, shape: tuple[int, int, int]) -> None:
    """Gives a canvas the size of the network's input [channels, height, width], where left out."""
    _, height, width = shape
    if not canvas.HasField("height"):
        canvas.height = height
    if not canvas.HasField("width"):
        canvas.width = width


def canvas_of(canvas: pb.Canvas, channels: int, count: int, limit: int) -> tuple[int, int, int]:
    """The canvas [channels, height, width] of so many pictures.

    Raises Failure RESPONSE_TOO_LARGE where they could not be sent in `limit` bytes, 0 for none, or
    their checkpoint could not be sent back.
    """
    shape = channels, canvas.height, canvas.width
    if limit:
        _check_room(shape, count, PREVIEW_BYTES, limit, "pictures and their checkpoint")
    _check_room(shape, count, CHECKPOINT_BYTES, MOST_CHECKPOINT_BYTES, "checkpoint")
    return shape


def _check_room(shape: tuple[int, int, int], count: int, each: int, limit: int, what: str) -> None:
    channels, height, width = shape
    one, room = each * prod(shape), limit - OTHER_BYTES
    if count * one <= room:
        return
    side = int((room / each / channels) ** 0.5)
    less = f"{room // one} at a time" if room >= one else f"at most {side} pixels a side"
    raise Failure(
        ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE,
        detail=f"the {what} of {count} x {height} x {width} pixels take {count * one / 2**20:.1f} "
        f"MiB, allowed are {room / 2**20:.1f} MiB",
        advice=f"Ask for {less}",
    )


def ending_of(canvas: tuple[int, int, int], count: int) -> float:
    """Seconds that an answer of so many pictures may take to be put together."""
    return count * BYTES * prod(canvas) / PACE


def task_of(
    network: ServedNetwork,
    canvas: tuple[int, int, int],
    seed: int,
    number: int,
    memory: Memory | None,
) -> Task:
    """What the method at work on a picture is given."""
    size = network.facts.input
    mean, std = (
        torch.tensor(list(numbers), device=network.device).view(-1, 1, 1)
        for numbers in (size.mean, size.std)
    )
    shape = (size.channels, size.height, size.width)
    return Task(canvas, shape, mean.clamp(0, 1), std, seed, number, memory)
