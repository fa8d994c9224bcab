"""Who is let in by which token, for every RPC of the contract, through a real server."""

import asyncio
import hmac
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import structlog.testing

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.access import access as followers
from convlens.server.access import scopes
from convlens.server.access.bearers import Bearers
from convlens.server.access.scopes import NEEDED, SCOPES
from convlens.server.contract import RPCS, Rpc
from convlens.v1.classification_pb2 import (
    ClassifyRequest,
    ClassifyStreamRequest,
    ClassifyStreamResponse,
)
from convlens.v1.image_pb2 import Image
from tests.server.access.serving import (
    CLASSIFY,
    LIMIT,
    LIST,
    STREAM,
    ask,
    bearer,
    calling,
    entry,
    failure_of,
    serving,
    until,
    write,
)

# Written out: whoever adds an RPC says here who may call it.
EXPECTED = {
    "AdversarialService/Attack": "attack",
    "AdversarialService/AttackStream": "attack",
    "AdversarialService/EvaluateRobustness": "attack",
    "ClassificationService/Classify": "classify",
    "ClassificationService/ClassifyStream": "classify",
    "ExplanationService/Explain": "explain",
    "ExplanationService/ExplainStream": "explain",
    "FeatureService/ExtractFeatures": "features",
    "FeatureService/ExtractFeaturesStream": "features",
    "NetworkService/GetNetwork": None,
    "NetworkService/ListNetworks": None,
    "NetworkService/ListPretrained": None,
    "NetworkService/LoadNetwork": "admin",
    "NetworkService/UnloadNetwork": "admin",
    "SynthesisService/Synthesize": "synthesize",
}
REFUSALS = {"UNAUTHENTICATED", "PERMISSION_DENIED", "QUOTA_EXCEEDED"}
REQUEST = ClassifyRequest(images=[Image(encoded=b"x")])


async def outcome(channel: grpc.aio.Channel, rpc: Rpc, metadata: Any) -> Failure | None:
    try:
        await ask(channel, rpc, metadata=metadata)
    except Failure as failure:
        return failure
    return None


def test_every_rpc_of_the_contract_has_its_scope() -> None:
    assert {RPCS[path].name: scope for path, scope in NEEDED.items()} == EXPECTED


def test_an_rpc_that_nobody_thought_of_is_open_to_nobody() -> None:
    new = Rpc(
        *("/convlens.v1.NewService/Do", "NewService/Do", "convlens.v1.NewService"),
        *(Image, Image, False, False),
    )
    also = replace(new, name="NetworkService/ResetNetwork", service=LIST.service)
    for rpc in (new, also):
        with pytest.raises(KeyError):
            scopes._needed(rpc)


async def test_every_rpc_with_every_scope(tokens: Path) -> None:
    write(tokens, *(entry(f"t-{scope}", scope, [scope]) for scope in SCOPES))
    async with calling(tokens=tokens) as (_, channel):
        for rpc in RPCS.values():
            needed = EXPECTED[rpc.name]
            nobody = await outcome(channel, rpc, ())
            assert nobody and reason_name(nobody.reason) == "UNAUTHENTICATED"
            for scope in SCOPES:
                failure = await outcome(channel, rpc, bearer(f"t-{scope}"))
                reason = reason_name(failure.reason) if failure else ""
                if needed in (None, scope):
                    assert reason not in REFUSALS, (rpc.name, scope)
                else:
                    assert failure and reason == "PERMISSION_DENIED"
                    assert failure.metadata == {
                        "rpc": rpc.name,
                        "scope": needed,
                        "scopes": scope,
                    }


async def test_without_a_file_everybody_may_call() -> None:
    async with calling() as (_, channel):
        assert await ask(channel, LIST)
        assert await ask(channel, LIST, metadata=bearer("whatever"))


NO_TOKENS: dict[str, tuple[Any, str]] = {
    "none": ((), "it sent no token"),
    "unknown": (bearer("t-labx"), "the token is not one that it knows"),
    "its hash": (bearer(entry("t-lab")["sha256"]), "the token is not one that it knows"),
    "two": (bearer("t-lab") * 2, "'authorization' is there 2 times"),
    "no scheme": ((("authorization", "t-lab"),), "'authorization' is not 'Bearer TOKEN'"),
    "another scheme": ((("authorization", "Basic dC1sYWI="),), "is not 'Bearer TOKEN'"),
    "no token": ((("authorization", "Bearer "),), "is not 'Bearer TOKEN'"),
    "two words": ((("authorization", "Bearer t-lab t-lab"),), "is not 'Bearer TOKEN'"),
    "very long": (bearer("a" * 7000), "is not 'Bearer TOKEN'"),
    "empty": ((("authorization", ""),), "is not 'Bearer TOKEN'"),
    "as bytes": ((("authorization-bin", b"Bearer t-lab"),), "it sent no token"),
}


async def test_what_is_no_token_and_what_is_said_to_it(tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with calling(tokens=tokens) as (_, channel):
        for case, (metadata, words) in NO_TOKENS.items():
            failure = await outcome(channel, LIST, metadata)
            assert failure and reason_name(failure.reason) == "UNAUTHENTICATED", case
            assert words in str(failure), case
            assert "t-lab" not in str(failure), case
        assert await ask(channel, LIST, metadata=(("authorization", "bearer  t-lab"),))


def test_every_hash_is_compared_in_constant_time(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tokens, *(entry(f"t-{name}", name) for name in "abcd"))
    bearers = Bearers(tokens)
    real, compared = hmac.compare_digest, []

    def counting(one: str, other: str) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for name in "abcd":
        assert bearers.caller(bearer(f"t-{name}")).name == name
    with pytest.raises(Failure):
        bearers.caller(bearer("t-e"))
    hashes = [entry(f"t-{name}")["sha256"] for name in "abcd"]
    assert compared == hashes * 5


async def test_who_may_not_call_fills_no_memory(tokens: Path) -> None:
    """Their message would be refused for its size, had gRPC read it."""
    write(tokens, entry("t-lab"))
    options = [("grpc.max_send_message_length", LIMIT)]
    async with calling(options=options, tokens=tokens, max_message_bytes=2**16) as (_, channel):
        body = bytes(2**24)
        with pytest.raises(Failure) as caught:
            await ask(channel, CLASSIFY, body)
        assert reason_name(caught.value.reason) == "UNAUTHENTICATED"
        with pytest.raises(grpc.aio.AioRpcError) as known:
            await ask(channel, CLASSIFY, body, bearer("t-lab"))
        assert known.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_caller_and_what_their_token_says(tokens: Path) -> None:
    write(tokens, entry("t-lab", "lab", ["attack", "explain"], batch_only=True), entry("u", "u"))
    bearers = Bearers(tokens)
    caller = bearers.caller(bearer("t-lab"))
    assert (caller.name, caller.scopes) == ("lab", {"attack", "explain"})
    assert not caller.interactive_allowed
    assert bearers.caller(bearer("u")).interactive_allowed
    assert entry("t-lab")["sha256"] not in repr(caller)


async def test_the_rate_of_calls_is_held_and_told(tokens: Path) -> None:
    slow: Any = {"requests_per_second": 0.001, "requests_burst": 2}
    write(tokens, entry("t-lab", **slow), entry("t-page", "page"))
    async with calling(tokens=tokens) as (_, channel):
        for _ in range(2):
            assert await ask(channel, LIST, metadata=bearer("t-lab"))
        failure = await outcome(channel, LIST, bearer("t-lab"))
        assert failure and reason_name(failure.reason) == "QUOTA_EXCEEDED"
        assert failure.retry_after == pytest.approx(1000, abs=10)
        # Somebody else has a quota of their own.
        assert await ask(channel, LIST, metadata=bearer("t-page"))


async def test_a_stream_is_held_back_at_the_rate_of_its_token(tokens: Path) -> None:
    write(tokens, entry("t-lab", requests_per_second=20, requests_burst=1))
    loop = asyncio.get_running_loop()
    async with calling(tokens=tokens) as (_, channel):
        call: Any = channel.stream_stream(STREAM.path)(metadata=bearer("t-lab"))
        began = loop.time()
        for number in range(6):
            await call.write(ClassifyStreamRequest(id=number, request=REQUEST).SerializeToString())
        await call.done_writing()
        answers = [ClassifyStreamResponse.FromString(answer) async for answer in call]
        took = loop.time() - began
    assert [answer.id for answer in answers] == list(range(6))
    assert not any(answer.HasField("error") for answer in answers)
    assert took > 5 / 20 * 0.95


async def test_tokens_change_while_the_server_runs(tokens: Path) -> None:
    write(tokens, entry("t-old"), entry("t-page", "page"))
    async with calling(tokens=tokens) as (gateway, channel):
        call: Any = channel.stream_stream(STREAM.path)(metadata=bearer("t-old"))

        async def one_more(number: int) -> Any:
            request = ClassifyStreamRequest(id=number, request=REQUEST)
            await call.write(request.SerializeToString())
            return ClassifyStreamResponse.FromString(await call.read())

        assert (await one_more(0)).id == 0
        # Both tokens of a name are good while its callers go over to the new one.
        both = {**entry("t-old"), "sha256": [entry(t)["sha256"] for t in ("t-old", "t-new")]}
        write(tokens, both, entry("t-page", "page"))
        await gateway.access.look()
        for token in ("t-old", "t-new", "t-page"):
            assert await ask(channel, LIST, metadata=bearer(token))
        assert (await one_more(1)).id == 1
        write(tokens, entry("t-new"))
        await gateway.access.look()
        assert await ask(channel, LIST, metadata=bearer("t-new"))
        for token in ("t-old", "t-page"):
            failure = await outcome(channel, LIST, bearer(token))
            assert failure and reason_name(failure.reason) == "UNAUTHENTICATED"
        # A stream may last for days: it ends with its token.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one_more(2)
            await call.read()
        assert "the token was withdrawn" in str(failure_of(caught.value))


async def test_a_stream_ends_with_its_scope(tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with calling(tokens=tokens) as (gateway, channel):
        call: Any = channel.stream_stream(STREAM.path)(metadata=bearer("t-lab"))
        body = ClassifyStreamRequest(id=1, request=REQUEST).SerializeToString()
        await call.write(body)
        assert ClassifyStreamResponse.FromString(await call.read()).id == 1
        write(tokens, entry("t-lab", scopes=["attack"]))
        await gateway.access.look()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.write(body)
            await call.read()
        failure: Any = failure_of(caught.value)
    assert reason_name(failure.reason) == "PERMISSION_DENIED"


async def test_refused_calls_have_the_name_of_their_token_in_the_log(tokens: Path) -> None:
    write(tokens, entry("t-lab", requests_per_second=0.001, requests_burst=1))
    attack = RPCS["/convlens.v1.AdversarialService/Attack"]
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with calling(tokens=tokens) as (_, channel):
            for rpc in (LIST, LIST, attack):
                await outcome(channel, rpc, bearer("t-lab"))
    told = [(line["token"], line["reason"]) for line in lines if line["event"] == "call"]
    assert told == [("lab", ""), ("lab", "QUOTA_EXCEEDED"), ("lab", "PERMISSION_DENIED")]


async def test_a_name_that_stays_keeps_what_it_used(tokens: Path) -> None:
    slow: Any = {"requests_per_second": 0.001, "requests_burst": 1}
    write(tokens, entry("t-lab", **slow))
    bearers = Bearers(tokens)
    bearers.caller(bearer("t-lab")).enter(LIST)
    write(tokens, entry("t-lab", **slow, passes_per_second=5), entry("u", "u"))
    assert bearers.followed.look()
    bearers.apply()
    with pytest.raises(Failure) as caught:
        bearers.caller(bearer("t-lab")).enter(LIST)
    assert reason_name(caught.value.reason) == "QUOTA_EXCEEDED"
    assert bearers.caller(bearer("u")).name == "u"


async def test_a_broken_file_leaves_the_old_one_in_force(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "LOOK_SECONDS", 0.01)
    write(tokens, entry("t-lab"))
    with structlog.testing.capture_logs() as logs:
        async with serving(tokens=tokens) as gateway:
            [file] = gateway.access.files
            async with grpc.aio.insecure_channel(str(gateway.address)) as channel:
                for broken in ("- name: lab\n  sha256: t-lab\n", "[]", None):
                    tokens.unlink() if broken is None else tokens.write_text(broken)
                    await until(lambda: file.is_stale)
                    assert await ask(channel, LIST, metadata=bearer("t-lab"))
                    write(tokens, entry("t-lab"))
                    await until(lambda: not file.is_stale)
    lines = [line for line in logs if line["event"].startswith("not reloaded")]
    assert len(lines) >= 3
    assert {line["setting"] for line in lines} == {"tokens"}
    assert f"{tokens}:2: sha256: must be a SHA-256" in lines[0]["why"]
    assert "t-lab" not in str(logs)


async def test_the_swap_of_links_as_kubernetes_does_it(tmp_path: Path) -> None:
    first, second = tmp_path / "..2026_1", tmp_path / "..2026_2"
    for folder, token in ((first, "t-one"), (second, "t-two")):
        folder.mkdir()
        write(folder / "tokens.yaml", entry(token))
    data, tokens = tmp_path / "..data", tmp_path / "tokens.yaml"
    data.symlink_to(first.name)
    tokens.symlink_to("..data/tokens.yaml")
    bearers = Bearers(tokens)
    assert bearers.caller(bearer("t-one"))
    assert not bearers.followed.look()
    new = tmp_path / "..data_tmp"
    new.symlink_to(second.name)
    new.replace(data)
    assert bearers.followed.look()
    bearers.apply()
    assert bearers.caller(bearer("t-two"))
    with pytest.raises(Failure):
        bearers.caller(bearer("t-one"))
