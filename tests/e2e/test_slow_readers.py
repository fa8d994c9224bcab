"""A caller who does not read what he asked for is spared previews; the server keeps few of them."""

from typing import Any

import grpc

from convlens.server.eager import MOST_BYTES
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.synthesis_pb2_grpc import SynthesisServiceStub
from convlens.v1.target_pb2 import Target
from tests.conftest import triton_is_slow
from tests.e2e.test_synthesize import request

STEPS = 64


@triton_is_slow
def test_who_stops_reading_misses_previews_and_finds_the_newest_and_the_end(
    channel: grpc.Channel,
) -> None:
    stub: Any = SynthesisServiceStub(channel)
    method = methods.ClassModel(target=Target(label="star"), steps=STEPS)
    asked = request(method, preview_every=1, canvas=pb.Canvas(height=256, width=256))
    unread = stub.Synthesize(asked, timeout=120)
    read = [next(unread)]
    # Jobs take turns: when one of as many steps is done that came later, this one is done too.
    at_once = [*stub.Synthesize(asked, timeout=120)]
    read += [*unread]

    assert read[-1].HasField("done") and at_once[-1].HasField("done")
    assert items(read) == items(at_once) != []
    everything, seen = previews(at_once), previews(read)
    assert [*everything] == [*range(1, STEPS + 1)]
    size = max(everything.values())
    assert size * STEPS > 3 * MOST_BYTES, "they would all fit"
    assert len(seen) < STEPS and [*seen] == sorted(seen) and [*seen][-1] == STEPS
    # gRPC's own buffers hold a few more.
    assert sum(seen.values()) < 2 * MOST_BYTES


def items(messages: list[Any]) -> list[Any]:
    """The pictures, none of which is left out."""
    return [each.item for each in messages if each.HasField("item")]


def previews(messages: list[Any]) -> dict[int, int]:
    """The size of each preview by its step."""
    return {each.preview.step: each.ByteSize() for each in messages if each.HasField("preview")}
