"""TLS of the server: who gets in, and certificates that change while it runs."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from convlens.server.access import access as followers
from convlens.server.access import pem
from convlens.server.access.files import Unusable
from convlens.server.gateway import Gateway
from convlens.server.main import main
from convlens.v1.classification_pb2 import (
    ClassifyRequest,
    ClassifyStreamRequest,
    ClassifyStreamResponse,
)
from convlens.v1.image_pb2 import Image
from tests.server.access.serving import (
    LIST,
    STREAM,
    Files,
    ask,
    bearer,
    entry,
    serving,
    until,
    write,
)

REQUEST = ClassifyRequest(images=[Image(encoded=b"x")])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def asked(address: str, credentials: grpc.ChannelCredentials | None, **options: Any) -> bytes:
    channel = (
        grpc.aio.secure_channel(address, credentials)
        if credentials
        else grpc.aio.insecure_channel(address)
    )
    async with channel:
        return await ask(channel, LIST, **options)


async def refused(address: str, credentials: grpc.ChannelCredentials | None) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked(address, credentials)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    return caught.value.details() or ""


async def serial(address: str, files: Files) -> str:
    """Of the certificate that a new connection gets to see."""

    def see() -> str:
        context = ssl.create_default_context(cafile=str(files.client_ca))
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return str((secured.getpeercert() or {})["serialNumber"])

    return await asyncio.to_thread(see)


async def test_callers_use_tls_and_nothing_else(files: Files, tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with serving(tokens=tokens, **files.settings) as gateway:
        address = str(gateway.address)
        assert await asked(address, files.credentials(), metadata=bearer("t-lab"))
        assert await refused(address, None)
        stranger = trustme.CA().cert_pem.bytes()
        told = await refused(address, grpc.ssl_channel_credentials(stranger))
        assert "CERTIFICATE_VERIFY_FAILED" in told


async def test_comments_in_any_script_harm_nothing(files: Files) -> None:
    for path in (files.certificate, files.client_ca):
        path.write_bytes("# Überwachung\n".encode() + path.read_bytes())
    async with serving(**files.settings, tls_client_ca=files.client_ca) as gateway:
        assert await asked(str(gateway.address), files.credentials(files.ca))


async def test_callers_must_show_a_certificate_where_an_authority_is_named(files: Files) -> None:
    mutual = {**files.settings, "tls_client_ca": files.client_ca}
    async with serving(**mutual) as gateway:
        address = str(gateway.address)
        assert await asked(address, files.credentials(files.ca))
        assert await refused(address, files.credentials())
        assert await refused(address, files.credentials(trustme.CA()))
        assert await refused(address, None)


async def test_a_new_certificate_under_running_calls(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "LOOK_SECONDS", 0.01)
    async with serving(**files.settings) as gateway:
        address = str(gateway.address)
        before = await serial(address, files)
        async with grpc.aio.secure_channel(address, files.credentials()) as channel:
            call: Any = channel.stream_stream(STREAM.path)()

            async def one_more(number: int) -> int:
                request = ClassifyStreamRequest(id=number, request=REQUEST)
                await call.write(request.SerializeToString())
                return ClassifyStreamResponse.FromString(await call.read()).id

            assert await one_more(1) == 1
            old = gateway.access.files[0].value
            files.renew()
            await until(lambda: gateway.access.files[0].value is not old)
            after = await serial(address, files)
            assert after != before
            # The stream goes on over the connection that it began on.
            assert await one_more(2) == 2
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        assert await serial(address, files) == after
        assert await asked(address, files.credentials())


async def test_a_new_authority_shuts_out_those_of_the_old_one(files: Files) -> None:
    mutual = {**files.settings, "tls_client_ca": files.client_ca}
    async with serving(**mutual) as gateway:
        address = str(gateway.address)
        old, new = files.credentials(files.ca), trustme.CA()
        accepted = files.credentials(new)
        assert await asked(address, old)
        new.cert_pem.write_to_path(str(files.client_ca))
        await gateway.access.look()
        assert await refused(address, old)
        assert await asked(address, accepted)


async def test_a_pair_that_does_not_fit_leaves_the_old_one_in_force(files: Files) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving(**files.settings) as gateway:
            address, before = str(gateway.address), await serial(str(gateway.address), files)
            good = files.key.read_bytes()
            files.key.write_bytes(files.ca.issue_cert("localhost").private_key_pem.bytes())
            for _ in range(3):
                await gateway.access.look()
            [file] = gateway.access.files
            assert file.is_stale
            assert await serial(address, files) == before
            assert await asked(address, files.credentials())
            files.key.write_bytes(good)
            await gateway.access.look()
            assert not file.is_stale
    [line] = [line for line in logs if line["event"].startswith("not reloaded")]
    assert line["why"] == (
        f"tls_key: {files.key}: is not the key of the certificate in {files.certificate}"
    )
    assert "reloaded" in [line["event"] for line in logs]


async def test_metrics_say_when_certificates_expire(files: Files) -> None:
    soon, late = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=n) for n in (9, 20))

    def renew(*ends: datetime) -> None:
        issued = [files.ca.issue_cert(*files.names, not_after=end) for end in ends]
        issued[0].private_key_pem.write_to_path(str(files.key))
        files.certificate.write_bytes(b"".join(one.cert_chain_pems[0].bytes() for one in issued))

    def shown(gateway: Gateway) -> dict[tuple[str, ...], float]:
        return gateway._metrics.expiry.values()

    renew(late, soon)
    mutual = {**files.settings, "tls_client_ca": files.client_ca}
    async with serving(**mutual) as gateway:
        [ca] = x509.load_pem_x509_certificates(files.client_ca.read_bytes())
        authority = {("tls_client_ca",): ca.not_valid_after_utc.timestamp()}
        # Of a chain, the first that is over.
        assert shown(gateway) == {("tls_certificate",): soon.timestamp(), **authority}
        renew(late)
        await gateway.access.look()
        assert shown(gateway) == {("tls_certificate",): late.timestamp(), **authority}
        files.certificate.write_text("none")
        await gateway.access.look()
        assert shown(gateway) == {("tls_certificate",): late.timestamp(), **authority}
    async with serving() as gateway:
        assert shown(gateway) == {}


def test_a_certificate_that_cannot_be_read_is_told() -> None:
    [begin, end] = (f"-----{word} CERTIFICATE-----" for word in ("BEGIN", "END"))
    with pytest.raises(Unusable, match=r"^tls_client_ca: has a certificate that cannot be read$"):
        pem.expiry("tls_client_ca", f"{begin}\nAAAA\n{end}\n".encode())


def encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def of_another_kind() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


# What is written over which file, and the end of the line that tells of it.
MISTAKES = {
    "no certificate": ("certificate", lambda _: b"hello", "has no certificate in PEM"),
    "half a certificate": ("certificate", lambda pem: pem[:200], "has no certificate in PEM"),
    "no key": ("key", lambda _: b"", "has no key in PEM that can be read without a password"),
    "a password": ("key", encrypted, "has no key in PEM that can be read without a password"),
    "another kind of key": (
        "key",
        lambda _: of_another_kind(),
        "is not the key of the certificate",
    ),
    "another script": ("certificate", lambda _: "—".encode(), "has no certificate in PEM"),
    "no authority": ("client_ca", lambda _: b"\xff", "has no certificate in PEM"),
    "no file": ("client_ca", None, "No such file or directory"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_at_the_start(
    case: str, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name, change, words = MISTAKES[case]
    path: Path = getattr(files, name)
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    flags = ["--tls-certificate", str(files.certificate), "--tls-key", str(files.key)]
    flags += ["--tls-client-ca", str(files.client_ca), "--listen", "127.0.0.1:0"]
    assert main(flags) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"convlens-server: tls_{name}: {path}: {words}")
    assert len(error.splitlines()) == 1


async def test_probes_need_no_tls_and_get_at_nothing_else(files: Files, tokens: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    write(tokens, entry("t-lab"))
    mutual = {**files.settings, "tls_client_ca": files.client_ca}
    async with serving(health_listen="127.0.0.1:0", tokens=tokens, **mutual) as gateway:
        address = str(gateway.health_address)

        async def health(channel: grpc.aio.Channel, service: str = "") -> int:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

        async with (
            grpc.aio.insecure_channel(address) as probe,
            grpc.aio.secure_channel(str(gateway.address), files.credentials(files.ca)) as own,
        ):
            service = "convlens.v1.ClassificationService"
            for name in ("readiness", "liveness", "startup"):
                assert await health(probe, name) == health_pb2.HealthCheckResponse.SERVING
            for channel in (probe, own):
                assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
                assert await health(channel, service) == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(probe, LIST, metadata=bearer("t-lab"))
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
            service_down = health_pb2.HealthCheckResponse.NOT_SERVING
            engine: Any = gateway._engine
            engine.able = False
            watch: Any = health_pb2_grpc.HealthStub(probe)
            async with asyncio.timeout(10):
                async for told in watch.Watch(health_pb2.HealthCheckRequest(service=service)):
                    if told.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                        break
            # What Kubernetes asks: nothing can be answered, yet the process lives and has started.
            names = ("", "readiness", "liveness", "startup")
            assert [await health(probe, name) == service_down for name in names] == (
                [True, True, False, False]
            )
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))).close()


async def test_probes_are_off_unless_they_are_asked_for() -> None:
    async with serving() as gateway:
        assert gateway.health_address is None


def test_a_taken_address_of_probes(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        flags = ["--listen", "127.0.0.1:0", "--metrics-listen", "off", "--health-listen", address]
        assert main(flags) == 1
    assert f"cannot listen on {address}: " in capsys.readouterr().err
