"""What all commands share: help, exit codes, one line per error."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest

from convlens.client.cli import _program
from convlens.client.cli._program import program
from convlens.client.cli._study import STUDIES
from convlens.contract import ErrorReason, Failure
from convlens.v1 import network_pb2

COMMANDS = [
    *("anatomy", "attack", "classify", "completion", "demo", "explain", "extract", "health"),
    *("networks", "replay", "report", "robustness", "study", "synthesize"),
]


def test_help_teaches(run):
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in result.stdout
    assert "convlens classify holiday.jpg photos/ --top-k 3" in result.stdout
    assert "0, 1 (something failed), 2 (wrong usage), 130 (Ctrl-C)" in " ".join(
        result.stdout.split()
    )


@pytest.mark.parametrize("command", [*COMMANDS, *(f"study {name}" for name in STUDIES)])
def test_every_command_has_help_without_a_server(run, server, command):
    for flag in ("-h", "--help"):
        result = run(*command.split(), flag)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: convlens {command}")
        assert max(map(len, result.stdout.splitlines())) <= 80
    assert server.requests == []


def test_ranges_and_defaults_come_from_the_contract(run):
    text = " ".join(run("classify", "--help").stdout.split())
    assert "How many of the best classes to show; 5 by default. [1<=x<=100000]" in text


def test_version(run):
    assert run("--version").stdout == "convlens 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clasify", "a"], "No such command 'clasify'"),
        (["classify"], "Missing argument 'FILE|FOLDER|GLOB...'"),
        (["classify", "a", "--frobnicate"], "No such option"),
        (["classify", "a", "--top-k", "0"], "0 is not in the range 1<=x<=100000"),
        (["classify", "a", "--json", "--csv"], "--json and --csv exclude each other"),
        (["health", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["health", "--timeout", "nan"], "nan is not in the range x>0"),
        (["health", "--timeout", "inf"], "inf is not in the range x>0"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_2_and_one_line(run, arguments, said):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("convlens: ") and said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "--help'." in result.stderr


def test_no_command_shows_help_and_is_2(run):
    result = run()
    assert result.exit_code == 2
    assert "Usage: convlens" in result.stderr


@pytest.mark.parametrize("command", [["networks"], ["health"], ["classify", "a.png"]])
def test_no_server_is_1_and_one_line_at_once(run, command):
    started = time.monotonic()
    result = run(*command, "--server", "127.0.0.1:1")
    assert time.monotonic() - started < 1
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("convlens: No server answers at 127.0.0.1:1: ")
    assert len(result.stderr.splitlines()) == 1


def test_networks(run, server):
    result = run("networks")
    assert result.exit_code == 0
    assert result.stdout.split() == [
        "network",
        "kind",
        "classes",
        "pets@1",
        "image",
        "2",
        "default",
    ]
    document = json.loads(run("networks", "--json").stdout)
    assert document["server"] == server.address
    assert document["networks"] == [
        {
            "name": "pets",
            "version": "1",
            "kind": "image",
            "classes": 2,
            "is_default": True,
            "traffic_weight": 1.0,
        }
    ]
    server.answers["ListNetworks"] = network_pb2.ListNetworksResponse()
    assert run("networks").stdout == f"The server at {server.address} has no networks.\n"


def test_health(run, server):
    result = run("health")
    assert (result.exit_code, result.stdout) == (0, f"{server.address}: serving\n")
    document = json.loads(run("health", "--json").stdout)
    assert document == {"server": server.address, "service": "", "status": "serving"}
    server.answers["Check"] = type(server.answers["Check"])(status=2)
    assert run("health").exit_code == 1
    result = run("health", "convlens.v1.NetworkService")
    assert (result.exit_code, result.stdout) == (1, "convlens.v1.NetworkService: not serving\n")


def test_an_error_of_the_server_is_its_sentence(run, server):
    failure = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="42")
    server.answers["ListNetworks"] = failure
    result = run("networks")
    assert (result.exit_code, result.stderr) == (1, f"convlens: {failure}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    assert "_CONVLENS_COMPLETE" in run("completion", shell).stdout


def test_completion_completes(spawn, monkeypatch):
    monkeypatch.setenv("_CONVLENS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "convlens cl")
    monkeypatch.setenv("COMP_CWORD", "1")
    process = spawn()
    assert process.communicate(timeout=30)[0].strip() == "plain,classify"


def test_a_defect_is_one_line_unless_asked_for_more(run, server, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("convlens.client.cli._classify.found", broken)
    result = run("classify", "a.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("convlens: a defect of this command: ZeroDivisionError: oops.")
    assert len(result.stderr.splitlines()) == 1
    monkeypatch.setenv("CONVLENS_DEBUG", "1")
    assert isinstance(run("classify", "a.png").exception, ZeroDivisionError)


def test_as_a_process(spawn, pictures):
    process = spawn("classify", pictures)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert len(output.splitlines()) == 4


def test_the_console_script_is_installed():
    script = Path(sys.executable).with_name("convlens")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30)
    assert run.stdout == "convlens 0.1.0\n"


def test_ctrl_c_is_130_and_one_line(spawn, server, pictures):
    asked, over = threading.Event(), threading.Event()
    server.answers["Classify"] = lambda _: (asked.set(), over.wait(20))
    process = spawn("classify", pictures)
    assert asked.wait(20)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    over.set()
    assert (process.returncode, output) == (130, "")
    assert errors.strip() == "convlens: interrupted"


def test_a_reader_that_goes_away_leaves_no_traceback(spawn, tmp_path):
    for n in range(2000):
        (tmp_path / f"{n}.png").write_bytes(b"x")
    process = spawn("classify", tmp_path, "--json")
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(30) == 1
    assert errors == ""


def test_a_terminal_without_unicode(spawn, pictures, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (pictures / "käse.png").write_bytes(b"x")
    output, errors = spawn("classify", pictures).communicate(timeout=30)
    assert errors == ""
    assert "#########" in output


def test_a_server_that_goes_away_leaves_one_line(spawn, server, tmp_path):
    over = threading.Event()
    server.answers["Classify"] = lambda _: over.wait(20)
    (tmp_path / "a.png").write_bytes(b"x")
    process = spawn("classify", tmp_path)
    while not server.requests:
        time.sleep(0.02)
    server.stop()
    over.set()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1 and errors.startswith("convlens: ")


def test_the_list_of_commands_says_what_they_say_themselves(run):
    context = click.Context(program)
    assert program.list_commands(context) == COMMANDS
    for name, summary in _program.COMMANDS.items():
        command = program.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(limit=200) == summary
    assert os.environ.get("CONVLENS_SERVER") is None


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("networks", "(--timeout allows more)"),
        (
            "explain --method saliency",
            "(--timeout allows more and --allow-partial takes what there is by then)",
        ),
        ("explain --method saliency --allow-partial", "(--timeout allows more)"),
        ("classify", "allow more time or send less work.\n"),
    ],
)
def test_what_is_late_names_the_options_that_help(run, server, photo, command, advice):
    late = Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="in the queue")
    for rpc in ("ListNetworks", "Explain", "Classify"):
        server.answers[rpc] = late
    result = run(*command.split(), *([] if command == "networks" else [photo]))
    assert result.exit_code == 1
    assert "The time allowed for the call was over in the queue" in result.stderr
    assert advice in result.stderr
