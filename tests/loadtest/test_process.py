"""The command among other programs: help, completion, Ctrl-C, servers that go, terminals."""

import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import psutil
import pytest
from click.shell_completion import BashComplete

import convlens.loadtest.cli.limit as limit_command
import convlens.loadtest.cli.program as commands
from convlens.client.testing import FakeServer
from tests.loadtest.conftest import Run, Spawn

SCRIPT = Path(sys.executable).with_name("convlens-loadtest")
LONG = {"name": "long", "duration": "10m", "open": {"rate": 30}}
SHELLS = [name for name in ("bash", "zsh", "fish") if shutil.which(name)]


def test_help_teaches(invoke: Run) -> None:
    text = invoke("--help").stdout
    for command in commands.COMMANDS:
        assert f"  {command} " in text
    assert "convlens-loadtest smoke --server gpu-1:50051" in text
    assert "3 (a limit did not hold)" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", sorted(commands.COMMANDS))
def test_every_command_has_help(invoke: Run, command: str) -> None:
    for flag in ("-h", "--help"):
        result = invoke(command, flag)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: convlens-loadtest {command}")
        assert max(map(len, result.stdout.splitlines())) <= 80
    summary = commands.COMMANDS[command]
    assert summary in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Usage: convlens-loadtest"),
        (["smok"], 1, "There is no scenario 'smok'"),
        (["smok"], 1, "Did you mean smoke?"),
        (["smoke", "--frobnicate"], 2, "No such option"),
        (["--frobnicate"], 2, "No such option"),
        (["/"], 1, "cannot be read"),
        ([""], 1, "There is no scenario ''"),
        (["completion", "tcsh"], 2, "is not one of"),
    ],
)
def test_wrong_usage_is_said(invoke: Run, arguments: list[str], code: int, said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code
    assert said in result.stderr


@pytest.mark.parametrize("name", SHELLS)
def test_shells_take_the_completion(name: str) -> None:
    source = 'eval "$(%s completion %s)"' if name != "fish" else "%s completion %s | source"
    first = "autoload -U compinit; compinit; " if name == "zsh" else ""
    script = first + source % (SCRIPT, name)
    run = subprocess.run([name, "-c", script], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "place", "found"),
    [
        ("convlens-loadtest sm", 1, {"plain,smoke"}),
        ("convlens-loadtest comp", 1, {"plain,compare", "plain,completion"}),
        ("convlens-loadtest smoke --proc", 2, {"plain,--processes"}),
        ("convlens-loadtest show mix", 2, {"plain,mixed-tenants"}),
    ],
)
def test_completion_completes(
    monkeypatch: pytest.MonkeyPatch, words: str, place: int, found: set[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    said = BashComplete(commands.program, {}, "convlens-loadtest", "_COMPLETE").complete()
    assert found <= set(said.split())


def until_asked(fake: FakeServer, process: "subprocess.Popen[str]") -> None:
    """Waits until the load has begun."""
    while sum(request.rpc == "Classify" for request in fake.requests) < 10:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_early_with_the_results_so_far(
    fake: FakeServer,
    spawn: Spawn,
    scenario: Callable[..., Path],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    output, page = tmp_path / "result.json", tmp_path / "page.html"
    process = spawn(*(scenario(LONG), "--server", fake.address, "--output", output, "--html", page))
    until_asked(fake, process)
    children = psutil.Process(process.pid).children()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "The run ended before its time: interrupted." in stdout
    result = json.loads(output.read_text())
    assert result["total"]["answered"] >= 5 and result["ended_early"] == "interrupted"
    assert "</html>" in page.read_text()
    assert children and not any(child.is_running() for child in children)


def test_a_server_that_goes_away_is_told(
    fake: FakeServer, spawn: Spawn, scenario: Callable[..., Path]
) -> None:
    process = spawn(scenario(LONG, give_up_after=0.5), "--server", fake.address, "--json")
    until_asked(fake, process)
    fake.stop()
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    said = "convlens-loadtest: no server has answered for 0.5 s. No server answers at "
    assert stderr.startswith(said), stderr
    document = json.loads(stdout)
    assert document["total"]["reasons"]["SERVER_UNREACHABLE"] > 0
    assert document["total"]["answered"] > 0


def test_load_processes_end_with_their_conductor(
    fake: FakeServer, spawn: Spawn, scenario: Callable[..., Path]
) -> None:
    process = spawn(scenario(LONG), "--server", fake.address)
    until_asked(fake, process)
    children = psutil.Process(process.pid).children()
    assert len(children) == 1
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_load_process_that_dies_is_told(
    fake: FakeServer, spawn: Spawn, scenario: Callable[..., Path]
) -> None:
    process = spawn(scenario(LONG), "--server", fake.address, "--quiet")
    until_asked(fake, process)
    psutil.Process(process.pid).children()[0].kill()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.startswith("convlens-loadtest: Load process 1 of 1 ended by itself")


def test_a_terminal_shows_it_live(fake: FakeServer, scenario: Callable[..., Path]) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    path = scenario({"name": "short", "duration": 1, "open": {"rate": 30}})
    command = [sys.executable, "-m", "convlens.loadtest", str(path), "--server", fake.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                written += os.read(ours, 65536)
            except OSError:
                break
        assert process.wait(20) == 0
    os.close(ours)
    text = written.decode()
    for word in ("offered", "30/s", "under way", "generator", "short"):
        assert word in text


def test_the_generator_says_when_it_is_the_bottleneck(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    usual = fake.answers["Classify"]

    def slow(request):
        time.sleep(0.3)
        return usual(request) if callable(usual) else usual

    fake.answers["Classify"] = slow
    phase = {"name": "crowd", "duration": 0.6, "open": {"rate": 50, "arrivals": "constant"}}
    result = invoke(scenario(phase, max_in_flight=3), "--server", fake.address, "--json")
    document = json.loads(result.stdout)
    assert document["total"]["unsent"] == document["total"]["reasons"]["NOT_SENT"] > 20
    assert document["total"]["due"] == 30
    assert "of what was due could not be sent" in document["generator"]["bottleneck"]
    assert document["warnings"][0].startswith("The load generator was the bottleneck")


def test_the_generators_own_limit(invoke: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_command, "FACTOR", 10.0)
    monkeypatch.setattr(limit_command, "HIGHEST", 40_000.0)
    result = invoke("limit", "--from", 400, "--each", 0.5, "--side", 32, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    first, *_, last = document["steps"]
    # On a busy machine even the first may be late.
    assert document["requests_per_second"] in (400, 4000, None)
    assert first["answered"] == pytest.approx(400, rel=0.3)
    # No machine offers 40,000 a second from one process.
    assert "could not be sent" in last["bottleneck"]


def test_a_limit_that_is_interrupted_is_none(spawn: Spawn) -> None:
    process = spawn("limit", "--side", 32)
    assert process.stderr
    while not process.stderr.readline().startswith("warm-up"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (130, "") and "interrupted" in stderr
