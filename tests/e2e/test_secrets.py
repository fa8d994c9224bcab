"""Tokens and pictures never reach the log, however much is logged."""

import base64
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image as Pictures
from PIL.PngImagePlugin import PngInfo

from convlens.server.contract import RPCS
from convlens.v1.adversarial_pb2 import AttackRequest
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from convlens.v1.explanation_pb2 import ExplainRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import GetNetworkRequest, LoadNetworkRequest
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor
from tests.server.access.serving import bearer, entry, write

MARK = b"MARK-271828182845"
TOKEN, WRONG = "convlens_good-314159265358", "convlens_wrong-161803398874"


def marked() -> bytes:
    """A good picture with the mark in a text and in its pixels."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text("Comment", MARK.decode())
    Pictures.frombytes("L", (len(MARK), 1), MARK).resize((64, 64)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def images() -> list[Image]:
    shape = [1, len(MARK), 1]
    return [
        Image(encoded=marked()),
        Image(encoded=MARK * 10),
        Image(encoded=marked()[:-30] + MARK),
        Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=shape, data=MARK)),
        Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[3], data=MARK)),
    ]


def calls() -> list[tuple[str, bytes]]:
    """Paths and bodies: good ones, bad ones, and one that does not parse."""
    classification = "/convlens.v1.ClassificationService"
    requests: list[tuple[str, Any]] = [
        (f"{classification}/Classify", ClassifyRequest(images=images())),
        (f"{classification}/Classify", ClassifyRequest(images=images(), top_k=2**31)),
        (
            f"{classification}/ClassifyStream",
            ClassifyStreamRequest(id=1, request=ClassifyRequest(images=images())),
        ),
        ("/convlens.v1.ExplanationService/Explain", ExplainRequest(images=images())),
        ("/convlens.v1.AdversarialService/Attack", AttackRequest(images=images()[:1])),
        ("/convlens.v1.NetworkService/GetNetwork", GetNetworkRequest(network="none")),
        ("/convlens.v1.NetworkService/LoadNetwork", LoadNetworkRequest(network="none")),
    ]
    return [
        *((path, request.SerializeToString()) for path, request in requests),
        (f"{classification}/Classify", b"\xff" + MARK),
    ]


def call(channel: grpc.Channel, path: str, body: bytes, token: str) -> None:
    rpc = RPCS[path]
    options: dict[str, Any] = {"metadata": bearer(token), "timeout": 30}
    try:
        if rpc.streams_in:
            list(channel.stream_stream(path)(iter([body]), **options))
        else:
            channel.unary_unary(path)(body, **options)
    except grpc.RpcError:
        pass


def shapes_of(secret: bytes) -> list[str]:
    """How it could stand in a log."""
    return [
        secret.decode(),
        secret.hex(),
        # From the middle: the beginning depends on what stands before it.
        base64.b64encode(secret[1:]).decode()[4:-4],
        base64.b64encode(secret[2:]).decode()[4:-4],
        base64.b64encode(secret).decode()[4:-4],
        ", ".join(map(str, secret)),
    ]


@pytest.mark.parametrize("form", ["json", pytest.param("console", marks=pytest.mark.slow)])
def test_the_log_at_its_fullest_has_no_token_and_no_picture(form: str, tmp_path: Path) -> None:
    scopes = ("classify", "explain", "attack", "admin")
    tokens = write(tmp_path / "tokens.yaml", entry(TOKEN, "lab", scopes))
    command = [sys.executable, "-m", "convlens.server", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "off", "--log-level", "debug", "--log-format", form]
    with subprocess.Popen([*command, "--tokens", str(tokens)], stderr=subprocess.PIPE) as process:
        assert process.stderr
        try:
            lines = []
            while b"serving" not in (line := process.stderr.readline()):
                lines.append(line)
            lines.append(line)
            [address] = [word for word in _words(line) if word.startswith("127.0.0.1:")][:1]
            with grpc.insecure_channel(address) as channel:
                for path, body in calls():
                    for token in (TOKEN, WRONG, ""):
                        call(channel, path, body, token)
            tokens.write_text(f"- name: lab\n  sha256: {TOKEN}\n  scopes: [admin]\n")
            while b"not reloaded" not in (line := process.stderr.readline()):
                lines.append(line)
            process.send_signal(signal.SIGTERM)
            lines += [line, *process.stderr]
        finally:
            process.kill()
    log = b"".join(lines).decode()
    assert log.count("PERMISSION_DENIED") + log.count("UNAUTHENTICATED") >= 2 * len(calls())
    assert "INVALID_REQUEST" in log and "MALFORMED_MESSAGE" in log
    assert '"token": "lab"' in log if form == "json" else "token=lab" in log
    for secret in (MARK, TOKEN.encode(), WRONG.encode()):
        assert [shape for shape in shapes_of(secret) if shape in log] == []
    assert tokens.read_text().count(TOKEN) == 1


def _words(line: bytes) -> list[str]:
    text = line.decode()
    if text.startswith("{"):
        return [str(json.loads(text)["address"])]
    return [word.partition("=")[2] for word in text.split() if word.startswith("address=")]
