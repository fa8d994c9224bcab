"""How the engine finds Triton: names, and what TLS is trusted with."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from convlens.server.engine import EngineError
from convlens.server.gateway import Gateway
from convlens.server.main import build
from convlens.server.settings import Settings
from convlens.server.triton import addresses, fleet
from convlens.server.triton.addresses import NamedAddresses
from convlens.server.triton.lists import Lists
from convlens.server.triton.tls import credentials


async def test_each_address_has_the_name_that_its_certificate_is_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return (
            [f"10.0.0.{last}:{port}" for last in (1, 2)] if host == "many" else [f"{host}:{port}"]
        )

    monkeypatch.setattr(addresses, "resolve", resolve)
    named = NamedAddresses("many:8001, [::1]:8002", [])
    # An IPv6 address stands in certificates without the brackets of a URL.
    assert await named.current() == {
        "10.0.0.1:8001": "many",
        "10.0.0.2:8001": "many",
        "::1:8002": "::1",
    }


async def test_addresses_are_found_by_the_system() -> None:
    named = NamedAddresses("localhost:8001,[::1]:8002,127.0.0.1:8003", [])
    found = await named.current()
    assert {"127.0.0.1:8001", "[::1]:8002", "127.0.0.1:8003"} <= set(found)


async def test_a_name_that_stands_for_nothing_harms_no_other() -> None:
    names = ("no-such-name.invalid", "a..b", "x" * 70)
    urls = ",".join(f"{name}:1" for name in (*names, "127.0.0.1"))
    assert await NamedAddresses(urls, []).current() == {"127.0.0.1:1": "127.0.0.1"}


def test_a_file_that_is_no_certificate_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for content in (b"", b"hello", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
        file.write_bytes(content)
        with pytest.raises(EngineError, match=r"^triton_ca: .*ca\.pem: has no certificate in PEM$"):
            credentials(file)
    with pytest.raises(EngineError, match=r"missing\.pem: No such file"):
        credentials(tmp_path / "missing.pem")


@pytest.fixture
async def plain() -> AsyncIterator[str]:
    """A server of gRPC that speaks no TLS."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def gateway_of(url: str, **settings: Any) -> Gateway:
    free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off"}
    given: dict[str, Any] = {"engine": "triton", "triton_url": url, **free, **settings}
    return build(Settings(**given))


async def test_a_triton_without_tls_is_said_at_once(plain: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    gateway = gateway_of(plain, triton_ca=ca)
    with pytest.raises(EngineError, match="does not speak TLS: leave triton_ca out"):
        await gateway.__aenter__()


async def test_nobody_there_is_said_with_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "START_SECONDS", 0.0)
    gateway = gateway_of("127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(EngineError) as caught:
        await gateway.__aenter__()
    assert "127.0.0.1:1 (failed to connect" in str(caught.value)
    assert "127.0.0.1:2 (failed to connect" in str(caught.value)
    gateway = gateway_of("no-such-name.invalid:1")
    with pytest.raises(EngineError, match="any address: no name resolves"):
        await gateway.__aenter__()


def test_a_repository_that_is_not_ours_has_no_lists() -> None:
    assert Lists.of({}) == Lists()
    text = '{"networks": ["b@1", "a@1"], "loadable": ["c@1"]}'
    assert Lists.of({"lists": {"string_value": text}}) == Lists(("b@1", "a@1"), ("c@1",))
