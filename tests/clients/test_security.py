"""TLS and tokens of both clients and of the command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from convlens.client import (
    AsyncClient,
    Client,
    Health,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
)
from convlens.client._security import is_local
from convlens.client.methods import Saliency
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure

TOKEN = "convlens_abc-123"
KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
VARIABLES = ("TLS", "CA", "CERTIFICATE", "KEY", "TOKEN", "TOKEN_FILE")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"CONVLENS_{name}", raising=False)


class Secured:
    """A fake server that has a port with TLS, and asks its callers for certificates there."""

    def __init__(self, folder: Path, mutual: bool) -> None:
        ca = trustme.CA()
        own, callers = ca.issue_cert("127.0.0.1"), ca.issue_cert("caller@example.org")
        self.ca, self.certificate, self.key = (folder / name for name in ("ca", "cert", "key"))
        ca.cert_pem.write_to_path(str(self.ca))
        self.certificate.write_bytes(callers.cert_chain_pems[0].bytes())
        self.key.write_bytes(callers.private_key_pem.bytes())
        self.fake = FakeServer()
        self.mutual = mutual
        self.address = self._open(own)
        self.misnamed = self._open(ca.issue_cert("other.example.org"))

    def _open(self, shown: trustme.LeafCert) -> str:
        pair = (shown.private_key_pem.bytes(), shown.cert_chain_pems[0].bytes())
        credentials = grpc.ssl_server_credentials([pair], self.ca.read_bytes(), self.mutual)
        return f"127.0.0.1:{self.fake._server.add_secure_port('127.0.0.1:0', credentials)}"

    def sent(self) -> list[str | bytes | None]:
        """What each call said of its caller."""
        return [request.metadata.get("authorization") for request in self.fake.requests]


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path, request.param)
    with made.fake:
        yield made


def test_tls_and_a_token(connect: Any, secured: Any) -> None:
    pair = {"certificate": secured.certificate, "key": str(secured.key)} if secured.mutual else {}
    client = connect(secured.address, ca=secured.ca, token=TOKEN, **pair)
    assert client.call("health") is Health.SERVING
    assert client.call("networks")
    assert len(list(client.stream([b"x"]))) == 1
    assert len(list(client.stream(b"x", Saliency(), method="explain_stream"))) > 0
    assert set(secured.sent()) == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(client.client) + repr(client.client._settings)


def test_a_server_that_is_not_trusted_is_not_asked(connect: Any, secured: Any, tmp_path: Path):
    stranger, other = tmp_path / "stranger", trustme.CA()
    other.cert_pem.write_to_path(str(stranger))
    unknown = tmp_path / "unknown"
    other.issue_cert("caller@example.org").private_key_and_cert_chain_pem.write_to_path(unknown)
    untrusted, closed = "is of no authority that is trusted", "hung up at once; it may want TLS"
    for security, words in (
        ({"ca": stranger}, untrusted),
        ({"tls": True}, untrusted),
        ({}, closed),
    ):
        with pytest.raises(Unavailable, match=words):
            connect(secured.address, max_attempts=1, token=TOKEN, **security).call("health")
    with pytest.raises(Unavailable, match="is for another name than this address"):
        connect(secured.misnamed, max_attempts=1, ca=secured.ca).call("health")
    with pytest.raises(Unavailable, match="it speaks no TLS there"):
        connect(secured.fake.address, max_attempts=1, ca=secured.ca).call("health")
    if secured.mutual:
        for pair in ({}, {"certificate": unknown, "key": unknown}):
            with pytest.raises(Unavailable, match="or a certificate of yours that it trusts"):
                connect(secured.address, max_attempts=1, ca=secured.ca, **pair).call("health")
    assert secured.sent() == []


def test_the_environment_says_it_too(
    connect: Any, secured: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONVLENS_CA", str(secured.ca))
    if secured.mutual:
        monkeypatch.setenv("CONVLENS_CERTIFICATE", str(secured.certificate))
        monkeypatch.setenv("CONVLENS_KEY", str(secured.key))
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("CONVLENS_TOKEN_FILE", str(file))
    client = connect(secured.address)
    client.call("health")
    # A file is read again for every call.
    file.write_text("convlens_next")
    client.call("health")
    connect(secured.address, token="").call("health")
    connect(secured.address, token="mine").call("health")
    said = [f"Bearer {TOKEN}", "Bearer convlens_next", None, "Bearer mine"]
    assert secured.sent() == said
    # Said outright, it is what is said.
    plain = connect(secured.fake.address, tls=False, token="")
    assert plain.call("health") is Health.SERVING


def test_the_switch_of_the_environment(
    connect: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("1", "true", "ON"):
        monkeypatch.setenv("CONVLENS_TLS", value)
        with pytest.raises(Unavailable):
            connect(server.address, max_attempts=1).call("health")
    for value in ("0", "off", ""):
        monkeypatch.setenv("CONVLENS_TLS", value)
        assert connect(server.address).call("health") is Health.SERVING
    monkeypatch.setenv("CONVLENS_TLS", "perhaps")
    with pytest.raises(InvalidRequest, match="CONVLENS_TLS is 'perhaps'; it must be 1 or 0"):
        Client(server.address)


@KINDS
@pytest.mark.parametrize(
    "address", ["gpu-1:50051", "127.evil.example:80", "10.0.0.1:1", "dns:///a:1", "[::2]:1"]
)
def test_a_token_does_not_go_readable_to_another_machine(kind: Any, address: str) -> None:
    with pytest.raises(InvalidRequest, match="readable to everybody on the way") as caught:
        kind(address, token=TOKEN)
    assert TOKEN not in str(caught.value)
    assert kind(address, token=TOKEN, allow_plaintext_token=True)
    assert kind(address, token=TOKEN, tls=True)
    assert kind(address)


def test_this_machine() -> None:
    for address in ("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/a"):
        assert is_local(address)


def test_a_channel_of_ones_own_has_its_own_security(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVLENS_CA", "missing.pem")
    monkeypatch.setenv("CONVLENS_TOKEN", "of-the-environment")
    with grpc.insecure_channel(server.address) as channel:
        assert Client(channel=channel).health() is Health.SERVING
        assert Client(channel=channel, token=TOKEN).health() is Health.SERVING
        with pytest.raises(
            InvalidRequest, match="tls is given; a channel of your own comes with its own"
        ):
            Client(channel=channel, tls=True)
    said = [request.metadata.get("authorization") for request in server.requests]
    assert said == [None, f"Bearer {TOKEN}"]


@KINDS
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"token": "two words"}, "The token is none: it must be 1 to 512 letters"),
        ({"token": "naïve"}, "The token is none"),
        ({"token": "a\nb"}, "The token is none"),
        ({"token": Path("missing")}, "The token's file missing: No such file"),
        ({"ca": "missing"}, "ca: missing: No such file"),
        ({"ca": __file__}, "ca: .*: has no certificate in PEM"),
        ({"ca": __file__, "tls": False}, "ca is given, and is of no use with tls=False"),
        ({"certificate": __file__}, "certificate and key must be given together"),
        ({"key": __file__}, "certificate and key must be given together"),
        ({"certificate": __file__, "key": __file__}, "are no pair in PEM that fits"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(kind: Any, given: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        kind("127.0.0.1:1", **given)
    assert "two words" not in str(caught.value) and "naïve" not in str(caught.value)


def test_two_tokens_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_TOKEN", TOKEN)
    monkeypatch.setenv("CONVLENS_TOKEN_FILE", "somewhere")
    with pytest.raises(InvalidRequest, match="both set; set one"):
        Client("127.0.0.1:1")


def test_errors_of_access_have_their_types(connect: Any, server: FakeServer) -> None:
    client = connect(server.address)
    for failure, kind in (
        (Failure(ErrorReason.ERROR_REASON_UNAUTHENTICATED, detail="x"), Unauthenticated),
        (
            Failure(ErrorReason.ERROR_REASON_PERMISSION_DENIED, rpc="a", scope="b", scopes="c"),
            PermissionDenied,
        ),
    ):
        server.answers["ListNetworks"] = failure
        before = len(server.requests)
        with pytest.raises(kind) as caught:
            client.call("networks")
        assert str(caught.value) == str(failure)
        assert len(server.requests) == before + 1, "to try again is of no use"


def test_a_used_up_quota_is_waited_for(connect: Any, server: FakeServer) -> None:
    failure = Failure(ErrorReason.ERROR_REASON_QUOTA_EXCEEDED, quota="1 pass", retry_after=0.01)
    good, tries = server.answers["ListNetworks"], []

    def answer(request: Any) -> Any:
        tries.append(request)
        if len(tries) < 3:
            raise failure
        return good

    server.answers["ListNetworks"] = answer
    assert connect(server.address).call("networks")
    assert len(tries) == 3
    server.answers["ListNetworks"] = failure
    with pytest.raises(QuotaExceeded) as caught:
        connect(server.address, max_attempts=2).call("networks")
    assert isinstance(caught.value, Overloaded)
    assert caught.value.retry_after == 0.01
