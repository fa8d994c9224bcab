"""How the command reaches a server with TLS and tokens."""

import json
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
import trustme
from click import Option

from convlens.client.cli._program import COMMANDS, program
from convlens.client.testing import FakeServer

TOKEN = "convlens_abc-123"
# Those that ask a server of the user's.
ASKING = sorted(COMMANDS.keys() - {"completion", "demo"})


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def commands(command: Any) -> list[Any]:
    """A command, or those of a group."""
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    inner = [command.get_command(context, name) for name in command.list_commands(context)]
    return [each for one in inner for each in commands(one)]


@pytest.mark.parametrize("name", ASKING)
def test_every_command_that_asks_has_the_options_and_none_takes_a_token(name: str) -> None:
    context: Any = None
    for command in commands(program.get_command(context, name)):
        flags = {flag for option in command.params for flag in option.opts}
        assert {"--tls", "--ca", "--certificate", "--key", "--token-file"} <= flags
        secrets = [p for p in command.params if isinstance(p, Option) and p.name == "token"]
        assert [p.opts for p in secrets] == [["--token-file"]]


def test_a_token_in_a_file(run: Any, server: FakeServer, token: Path) -> None:
    assert run("networks", "--token-file", token).exit_code == 0
    assert run("classify", "--token-file", token, __file__).exit_code == 0
    said = [request.metadata.get("authorization") for request in server.requests]
    assert set(said) == {f"Bearer {TOKEN}"} and len(said) >= 2


def test_tls_and_a_token(run: Any, token: Path, tmp_path: Path) -> None:
    ca, file = trustme.CA(), tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    own = ca.issue_cert("127.0.0.1")
    pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    fake = FakeServer()
    port = fake._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    where = ("--server", f"127.0.0.1:{port}", "--token-file", token)
    with fake:
        result = run("health", *where, "--ca", file, "--json")
        assert json.loads(result.stdout)["status"] == "serving"
        result = run("health", *where)
        assert result.exit_code == 1 and "Traceback" not in result.stderr
    [request] = fake.requests
    assert request.metadata["authorization"] == f"Bearer {TOKEN}"


def test_what_is_wrong_is_one_line_without_the_token(run: Any, token: Path) -> None:
    for flags, words in (
        (("--server", "gpu-1:50051", "--token-file", token), "readable to everybody on the way"),
        (("--ca", token), "has no certificate in PEM"),
        (("--no-tls", "--ca", token), "of no use"),
        (("--token-file", "missing"), "No such file"),
    ):
        result = run("health", *flags)
        assert result.exit_code == 1
        assert words in result.stderr and len(result.stderr.splitlines()) == 1
        assert TOKEN not in result.stderr
