"""The benchmark `echo`: its servers answer alike, and its clients count answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from benchmarks.common import Address, rate_of, serving
from benchmarks.echo import Load, measure, words
from benchmarks.echo_server import PATH, answer
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image


@pytest.fixture(scope="module")
def body() -> bytes:
    return ClassifyRequest(images=[Image(encoded=bytes(60_000))]).SerializeToString()


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, Address]]:
    with (
        serving(["benchmarks.echo_server", "bare", "answer"]) as bare,
        serving(["benchmarks.echo_server", "gateway", "answer"]) as gateway,
    ):
        yield {"bare": bare, "gateway": gateway}


def test_both_servers_answer_with_what_was_prepared(
    addresses: dict[str, Address], body: bytes
) -> None:
    for address in addresses.values():
        with grpc.insecure_channel(address.server) as channel:
            assert channel.unary_unary(PATH)(body, timeout=10) == answer()


def test_only_the_gateway_looks_at_the_request(addresses: dict[str, Address]) -> None:
    def ask(name: str) -> bytes:
        with grpc.insecure_channel(addresses[name].server) as channel:
            return channel.unary_unary(PATH)(b"no message", timeout=10)

    assert ask("bare") == answer()
    with pytest.raises(grpc.RpcError) as caught:
        ask("gateway")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_round_counts_answers_and_cpu_time(
    addresses: dict[str, Address], body: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "request"
    file.write_bytes(body)
    bare, gateway = (Load(name, address) for name, address in addresses.items())
    # Both at once, since what is compared here is nothing.
    with ThreadPoolExecutor() as rounds:
        list(rounds.map(lambda load: measure(load, file, 0.5), (bare, gateway)))
    for load in (bare, gateway):
        assert load.rates[0] > 0 and load.cpu[0] > 0
    assert "of the bare server's rate" in words(bare, gateway)


def test_the_edges_of_a_run_do_not_count() -> None:
    times = [0.0] * 10 + [float(second) for second in range(1, 81)] + [500.0] * 10
    assert rate_of(times) == pytest.approx(1.0)
