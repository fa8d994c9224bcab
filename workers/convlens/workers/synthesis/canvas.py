"""The canvas that pictures grow on, and what methods need to know of it and of the network."""

import torch

from convlens.contract import ErrorReason, Failure
from convlens.v1 import synthesis_pb2 as pb
from convlens.workers.network import ServedNetwork
from convlens.workers.synthesizers import Memory, Task

# For each value of a picture: in a checkpoint the picture, two moments of its gradient and the best
# one so far, and at the end the picture once more, with its PNG.
BYTES = 4 * 4 + 4 + 1
OTHER_BYTES = 65_536


def fill_in(canvas: pb.Canvas, shape: tuple[int, int, int]) -> None:
    """Gives a canvas the size of the network's input [channels, height, width], where left out."""
    _, height, width = shape
    if not canvas.HasField("height"):
        canvas.height = height
    if not canvas.HasField("width"):
        canvas.width = width


def canvas_of(canvas: pb.Canvas, channels: int, count: int, limit: int) -> tuple[int, int, int]:
    """The canvas [channels, height, width] of so many pictures.

    Raises Failure RESPONSE_TOO_LARGE where they could not be sent in `limit` bytes; 0 for none.
    """
    one = BYTES * channels * canvas.height * canvas.width
    room = limit - OTHER_BYTES
    if limit and count * one > room:
        side = int((room / BYTES / channels) ** 0.5)
        less = f"{room // one} at a time" if room >= one else f"at most {side} pixels a side"
        raise Failure(
            ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE,
            detail=f"{count} pictures of {canvas.height} x {canvas.width} pixels and their "
            f"checkpoint take {count * one / 2**20:.1f} MiB, allowed are {room / 2**20:.1f} MiB",
            advice=f"Ask for {less}",
        )
    return channels, canvas.height, canvas.width


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
