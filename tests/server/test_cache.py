"""The cache of answers: what is kept, what is computed once, and what never is."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from convlens.contract import ErrorReason, Failure
from convlens.server.cache import OVERHEAD, Cache, is_whole, key_of
from convlens.server.contract import RPCS
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import explanation_pb2
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import Network

CLASSIFY = RPCS["/convlens.v1.ClassificationService/Classify"]
EXTRACT = RPCS["/convlens.v1.FeatureService/ExtractFeatures"]
SHAPES = Network(name="shapes", version="1", digest="d")
ANSWER = pb.ClassifyResponse(
    results=[pb.ClassifyResult(classification=pb.Classification())]
).SerializeToString()
STATUS = Failure(ErrorReason.ERROR_REASON_CANCELLED).status()


class Kitchen:
    """Computes answers when it is told to, and counts how often it was asked."""

    def __init__(self, answer: bytes = ANSWER) -> None:
        self.asked = 0
        self.answer = answer
        self.go = asyncio.Event()
        self.fails = 0

    async def __call__(self) -> bytes:
        self.asked += 1
        await self.go.wait()
        if self.fails:
            self.fails -= 1
            raise Failure(ErrorReason.ERROR_REASON_CANCELLED)
        return self.answer


@pytest.fixture
def outcomes() -> Counter[str]:
    return Counter()


@pytest.fixture
def cache(outcomes: Counter[str]) -> Cache:
    return Cache(10_000, lambda outcome: outcomes.update([outcome]))


async def started(count: int = 1) -> None:
    for _ in range(3 * count):
        await asyncio.sleep(0)


async def test_the_same_question_is_computed_once(cache: Cache, outcomes: Counter[str]) -> None:
    kitchen = Kitchen()
    asking = [asyncio.create_task(cache.get(b"k", CLASSIFY, kitchen)) for _ in range(5)]
    await started()
    kitchen.go.set()
    assert await asyncio.gather(*asking) == [ANSWER] * 5
    assert await cache.get(b"k", CLASSIFY, kitchen) == ANSWER
    assert kitchen.asked == 1
    assert outcomes == {"miss": 1, "shared": 4, "hit": 1}
    assert await cache.get(b"other", CLASSIFY, kitchen) == ANSWER
    assert kitchen.asked == 2


async def test_a_failure_is_its_callers_alone(cache: Cache, outcomes: Counter[str]) -> None:
    kitchen = Kitchen()
    kitchen.fails = 1
    asking = [asyncio.create_task(cache.get(b"k", CLASSIFY, kitchen)) for _ in range(3)]
    await started()
    kitchen.go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], Failure) and found[1:] == [ANSWER] * 2
    assert kitchen.asked == 3
    assert outcomes["miss"] == 3, "each of the others computes, and none waits for another"


async def test_who_leads_may_leave(cache: Cache) -> None:
    kitchen = Kitchen()
    asking = [asyncio.create_task(cache.get(b"k", CLASSIFY, kitchen)) for _ in range(3)]
    await started()
    asking[0].cancel()
    await started()
    kitchen.go.set()
    assert await asyncio.gather(*asking[1:]) == [ANSWER] * 2
    assert kitchen.asked == 2


async def test_who_follows_may_leave(cache: Cache) -> None:
    kitchen = Kitchen()
    asking = [asyncio.create_task(cache.get(b"k", CLASSIFY, kitchen)) for _ in range(3)]
    await started()
    asking[1].cancel()
    await started()
    kitchen.go.set()
    assert await asking[0] == await asking[2] == ANSWER
    assert kitchen.asked == 1


async def test_an_answer_with_a_failure_in_it_is_not_kept(
    cache: Cache, outcomes: Counter[str]
) -> None:
    body = pb.ClassifyResponse(results=[pb.ClassifyResult(error=STATUS)]).SerializeToString()
    kitchen = Kitchen(body)
    kitchen.go.set()
    for _ in range(2):
        assert await cache.get(b"k", CLASSIFY, kitchen) == body
    assert (kitchen.asked, cache.size) == (2, 0)
    assert outcomes == {"miss": 2}


async def test_it_stays_within_its_bytes_and_forgets_what_was_used_longest_ago(
    outcomes: Counter[str],
) -> None:
    room = len(ANSWER) + OVERHEAD
    cache = Cache(3 * room, lambda outcome: outcomes.update([outcome]))
    kitchen = Kitchen()
    kitchen.go.set()
    for key in (b"a", b"b", b"c", b"a", b"d", b"a"):
        await cache.get(key, CLASSIFY, kitchen)
        assert cache.size <= 3 * room
    assert outcomes == {"miss": 4, "hit": 2}
    await cache.get(b"b", CLASSIFY, kitchen)
    assert outcomes["miss"] == 5, "b gave way to d"


async def test_what_is_larger_than_the_cache_is_answered_all_the_same() -> None:
    cache, kitchen = Cache(10, lambda outcome: None), Kitchen()
    kitchen.go.set()
    assert await cache.get(b"k", CLASSIFY, kitchen) == ANSWER
    assert cache.size == 0


def test_what_may_be_kept() -> None:
    classify, partial = pb.ClassifyRequest(), explanation_pb2.ExplainRequest(allow_partial=True)
    assert Cache(1, lambda outcome: None).keeps(classify)
    assert not Cache(1, lambda outcome: None).keeps(partial)
    assert not Cache(0, lambda outcome: None).keeps(classify), "it is off by default"


def test_failures_are_found_wherever_they_are() -> None:
    attribution = explanation_pb2.AttributionResult(error=STATUS)
    for parts, whole in (([], True), ([attribution], False)):
        explained = explanation_pb2.Explanation(attributions=parts)
        result = explanation_pb2.ExplainResult(explanation=explained)
        assert is_whole(explanation_pb2.ExplainResponse(results=[result])) == whole


def keys(*requests: pb.ClassifyRequest, network: Network = SHAPES) -> set[bytes]:
    return {key_of(CLASSIFY, network, request) for request in requests}


def test_the_same_question_in_other_words_has_the_same_key() -> None:
    star = [Image(encoded=b"star")]
    same = (
        pb.ClassifyRequest(images=star),
        pb.ClassifyRequest(images=star, top_k=5),
        pb.ClassifyRequest(images=star, network="shapes"),
        pb.ClassifyRequest(images=star, network="shapes@1"),
    )
    assert len(keys(*same)) == 1
    others = (
        pb.ClassifyRequest(images=star, top_k=3),
        pb.ClassifyRequest(images=[*star, *star]),
        pb.ClassifyRequest(images=[Image(encoded=b"ring")]),
    )
    assert len(keys(*same, *others)) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "e"},
        {"version": "2"},
        {"name": "other"},
        {"device_kind": "H100"},
        {"torch_version": "2.12"},
        {"rows": 4},
        {"channels_last": True},
        {"precision": 2},
        {"labels": ["a"]},
    ],
)
def test_another_network_has_other_keys(change: dict[str, Any]) -> None:
    other = Network()
    other.CopyFrom(SHAPES)
    other.MergeFrom(Network(**change))
    request = pb.ClassifyRequest(images=[Image(encoded=b"star")])
    assert keys(request) != keys(request, network=other)


def test_each_rpc_has_its_own_keys() -> None:
    request = pb.ClassifyRequest()
    assert key_of(CLASSIFY, SHAPES, request) != key_of(EXTRACT, SHAPES, request)
