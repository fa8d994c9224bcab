"""The command among other programs: signals, pipes, full disks, shells."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

CONVLENS = Path(sys.executable).with_name("convlens")
LOADED = """
import sys
from convlens.client.cli._program import program
print(*sorted({"grpc", "google.protobuf", "numpy", "rich"} & set(sys.modules)))
"""
# Ctrl-C while a module is being imported.
INTERRUPTED = """
import signal, sys
chosen = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == chosen:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
from convlens.client.cli import main
main()
"""


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def shell(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = ["bash", "-o", "pipefail", "-c", script, str(CONVLENS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def address(server, monkeypatch) -> str:
    monkeypatch.setenv("CONVLENS_SERVER", server.address)
    return server.address


def test_what_a_command_does_not_need_is_not_loaded():
    assert python(LOADED).stdout == "\n"


@pytest.mark.parametrize("command", ["demo", "classify"])
@pytest.mark.parametrize(
    "module", ["click", "convlens.client.cli._program", "grpc", "numpy", "rich.console"]
)
def test_ctrl_c_while_modules_are_loaded_is_one_line(command, module):
    run = python(INTERRUPTED, module, command, *(["a.png"] if command == "classify" else []))
    assert (run.returncode, run.stderr.strip()) == (130, "convlens: interrupted")


@pytest.mark.parametrize(
    "arguments", ["--help", "networks", "networks --json", "classify a.png", "completion bash"]
)
def test_a_full_disk_is_one_line(address, arguments, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    run = shell(f'cd {tmp_path} && "$0" {arguments} > /dev/full')
    assert run.returncode == 1
    assert run.stderr == "convlens: the output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("arguments", ["--help", "networks", "classify a.png --csv"])
def test_a_closed_stdout_is_one_line(address, arguments):
    run = shell(f'"$0" {arguments} >&-')
    assert run.returncode == 1
    assert run.stderr == "convlens: stdout is closed; there is nowhere to write to.\n"


def test_a_closed_stderr_changes_nothing(address, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    run = shell('"$0" classify $1/a.png $1/b.png 2>&-', tmp_path)
    assert run.returncode == 1
    assert len(run.stdout.splitlines()) == 2


@pytest.mark.parametrize("form", ["", "--json", "--csv"])
def test_head_ends_it_without_a_word(address, tmp_path, form):
    for n in range(1500):
        (tmp_path / f"{n}.png").write_bytes(b"x")
    run = shell(f'"$0" classify $1 {form} | head -1', tmp_path)
    assert (run.returncode, run.stderr) == (1, "")
    assert len(run.stdout.splitlines()) == 1


# Those of this machine; .ci/run installs all three.
SHELLS = [name for name in ("bash", "zsh", "fish") if shutil.which(name)]


@pytest.mark.parametrize("name", SHELLS)
def test_shells_take_the_completion(name):
    source = 'eval "$(%s completion %s)"' if name != "fish" else "%s completion %s | source"
    first = "autoload -U compinit; compinit; " if name == "zsh" else ""
    script = first + source % (CONVLENS, name)
    run = subprocess.run([name, "-c", script], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_signals_end_it_without_a_traceback(spawn, server, pictures, number, code):
    release = os.pipe()
    server.answers["Classify"] = lambda _: os.read(release[0], 1)
    process = spawn("classify", pictures)
    while not server.requests:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    for end in release[::-1]:
        os.close(end)
    assert process.returncode == code
    assert "Traceback" not in errors
