"""`convlens demo`: with stand-ins for the server, and once with the real one."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import click
import psutil
import pytest

from convlens.client import Client, Health
from convlens.client.cli import _demo, _embedded
from convlens.client.cli._embedded import EmbeddedServer

FAKE = """
import json, os, sys, time
from convlens.client.testing import FakeServer
print("not JSON", "x" * 100_000, file=sys.stderr)
print(json.dumps({"event": "loading", "pid": os.getpid()}), file=sys.stderr, flush=True)
with FakeServer() as server:
    print(json.dumps({"event": "serving", "address": server.address}), file=sys.stderr, flush=True)
    while True:
        time.sleep(0.1)
        print("x" * 10_000, file=sys.stderr, flush=True)
"""

FAILING = """
from convlens.client._fake_attacks import attack
from convlens.v1.adversarial_pb2 import ATTACK_STATUS_FAILED
def failed(request):
    response = attack(request)
    for result in response.results:
        result.verdict.status = ATTACK_STATUS_FAILED
    return response
with FakeServer() as server:
    server.answers["Attack"] = failed
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_a_server_lives_as_long_as_its_block():
    with EmbeddedServer(python(FAKE)) as server, Client(server.address) as client:
        pid = server.pid
        assert client.health() is Health.SERVING
        # Its log is read on, so it never stands still with a full pipe.
        time.sleep(0.5)
        assert client.health() is Health.SERVING
    assert not psutil.pid_exists(pid)


def test_a_server_that_dies_tells_why():
    command = python("import sys; print('first\\nno such weights', file=sys.stderr); sys.exit(3)")
    with pytest.raises(click.ClickException) as caught, EmbeddedServer(command):
        pytest.fail("it never served")
    assert "ended before it was ready, with exit code 3" in caught.value.message
    assert caught.value.message.endswith("| first\n  | no such weights")


def test_a_server_that_never_serves():
    started = time.monotonic()
    server = EmbeddedServer(python("import time; time.sleep(60)"), start_seconds=0.5)
    with pytest.raises(click.ClickException, match=r"not ready after 0\.5 s"), server:
        pytest.fail("it never served")
    assert time.monotonic() - started < 10
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_will_not_end_is_killed():
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAKE
    with EmbeddedServer(python(stubborn), stop_seconds=0.3) as server:
        pid = server.pid
    assert not psutil.pid_exists(pid)


def test_an_error_in_the_block_ends_the_server_too():
    server = EmbeddedServer(python(FAKE))
    with pytest.raises(LookupError), server:
        raise LookupError
    assert not psutil.pid_exists(server.pid)


@pytest.fixture
def fake_demo(monkeypatch, tmp_path) -> Path:
    """The demo with a stand-in server and two pictures."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(_demo, "server_command", lambda: python(FAKE))
    monkeypatch.setattr(_demo, "bundled_pictures", lambda: sorted(tmp_path.glob("*.png")))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path


def test_the_tables(run, fake_demo):
    result = run("demo")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("pets@1 on cpu, served over gRPC ")
    assert lines[2].split() == ["picture", "answer", "probability", "runner-up"]
    assert [line.split()[:2] for line in lines[3:5]] == [["a.png", "cat"], ["b.png", "cat"]]
    assert f"  {fake_demo}" in lines
    assert "Saliency              Where a small change of a pixel changes the score most" in lines
    [page] = fake_demo.glob("temporary/convlens-demo-*/report.html")
    assert f"  {page}" in lines
    where = lines.index("a.png was cat, 90.0 %. Changed by PGD, no value")
    assert lines[where + 1] == "by more than 4/255, it is now dog, 80.0 %."
    assert lines[where + 3].split()[0] == "report-fooled.png"
    for name in ("report-fooled.png", "report-fooled-shown.png"):
        assert f"  {page.with_name(name)}" in lines
        assert page.with_name(name).read_bytes().startswith(b"\x89PNG")


def test_an_attack_that_fails_is_no_success(run, fake_demo, monkeypatch):
    failing = FAKE.replace("with FakeServer() as server:", FAILING)
    monkeypatch.setattr(_demo, "server_command", lambda: python(failing))
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    assert "PGD within 4/255 did not fool the network on a.png; another attack may.\n" in (
        result.stdout
    )


def test_the_page_goes_where_its_user_wants_it(run, fake_demo):
    out = fake_demo / "page.html"
    for _ in range(2):
        assert run("demo", "-o", out).exit_code == 0
        assert "Grad-CAM of a.png for the class cat" in out.read_text()
        assert "a.png after DeepFool" in out.read_text()
        names = ("a.png", "b.png", "page-fooled-shown.png", "page-fooled.png", "page.html")
        assert sorted(path.name for path in fake_demo.iterdir() if path.is_file()) == [*names]
    assert list(fake_demo.glob("temporary/*")) == []
    assert run("demo", "-o", fake_demo / "page.txt").exit_code == 2


def test_json(run, fake_demo):
    document = json.loads(run("demo", "--json").stdout)
    assert [Path(r["picture"]).name for r in document["results"]] == ["a.png", "b.png"]
    assert document["results"][0]["classes"][0]["label"] == "cat"
    assert document["seconds"] > 0 and document["explain_seconds"] > 0
    [explained] = document["explanations"]
    assert explained["path"].endswith("a.png") and len(explained["answers"]) == 6
    assert Path(document["report"]).read_text().startswith("<!doctype html>")
    fooled = document["fooled"]
    assert (fooled["picture"], fooled["status"]) == (explained["path"], "succeeded")
    assert fooled["as_is"]["classes"][0]["label"] == "cat", "a fake server knows no pictures"


def test_no_server_installed(run, monkeypatch):
    monkeypatch.setattr(_embedded, "SERVER_MODULE", "convlens.nowhere")
    result = run("demo")
    assert result.exit_code == 1
    assert result.stderr == (
        "convlens: This needs the server; install it with: "
        "pip install 'convlens-server[embedded]'.\n"
    )


INTERRUPTED = """
import sys
from pathlib import Path
from convlens.client.cli import _demo
from convlens.client.cli._program import program
_demo.server_command = lambda: [sys.executable, "-c", sys.argv[1]]
_demo.bundled_pictures = lambda: [Path(__file__)]
program.main(["demo"], prog_name="convlens")
"""

SILENT = """
import os, sys, time, json
print(json.dumps({"event": "starting", "pid": os.getpid()}), file=open(sys.argv[1], "w"))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_demo_leaves_nothing_running(tmp_path, number, code):
    note = tmp_path / "pid"
    silent = SILENT.replace("sys.argv[1]", repr(str(note)))
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace("Path(__file__)", "Path('a.png')"), silent],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = json.loads(note.read_text())["pid"]
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    # A signal that came while it was being started leaves it to the leash, a moment later.
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_a_killed_demo_takes_its_server_along(tmp_path):
    note = tmp_path / "pid"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    silent = stubborn + SILENT.replace("sys.argv[1]", repr(str(note)))
    command = [sys.executable, "-c", INTERRUPTED.replace("Path(__file__)", "Path('a.png')"), silent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        server = psutil.Process(json.loads(note.read_text())["pid"])
        assert server.ppid() == process.pid
        process.kill()
    try:
        server.wait(5)
    except psutil.TimeoutExpired:
        server.kill()
        raise


def test_a_server_whose_starter_is_gone_does_not_start(tmp_path):
    note = tmp_path / "note"
    command = [*_embedded.LEASH, "1", sys.executable, "-c", f"open({str(note)!r}, 'w')"]
    if sys.platform == "linux":
        assert subprocess.run(command, timeout=20).returncode == 1
        assert not note.exists()
    command[len(_embedded.LEASH)] = str(os.getpid())
    assert subprocess.run(command, timeout=20).returncode == 0
    assert note.exists()


def test_a_server_that_dies_while_it_is_asked(run, monkeypatch, tmp_path):
    dying = FAKE.partition("with FakeServer")[0] + textwrap.dedent("""
        with FakeServer() as server:
            server.answers["Classify"] = lambda _: os._exit(3)
            line = json.dumps({"event": "serving", "address": server.address})
            print(line, file=sys.stderr, flush=True)
            time.sleep(60)
    """)
    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(_demo, "server_command", lambda: python(dying))
    monkeypatch.setattr(_demo, "bundled_pictures", lambda: [tmp_path / "a.png"])
    result = run("demo")
    assert result.exit_code == 1
    assert result.stderr.startswith("convlens: No server answers at 127.0.0.1:")
    assert len(result.stderr.splitlines()) == 1


# By default it runs in tests/e2e/test_sdk.py, with what it shows to people.
@pytest.mark.slow
def test_the_real_thing(spawn):
    process = spawn("demo", "--json")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    document = json.loads(output)
    results = document["results"]
    assert len(results) >= 12
    assert [len(each["answers"]) for each in document["explanations"]] == [7, 7, 7]
    page = Path(document["report"])
    assert page.read_text().count("data:image/") > 30
    fooled = document["fooled"]
    assert (fooled["status"], fooled["rounded_status"]) == ("succeeded", "succeeded")
    assert fooled["distance"]["linf"] <= 4 / 255
    said = fooled["as_is"]["classes"][0]
    assert said["label"] == fooled["after_rounding"][0]["label"] != fooled["before"][0]["label"]
    assert said["probability"] > 0.5
    for path in (page, *map(Path, fooled["files"].values())):
        path.unlink()
    page.parent.rmdir()
    for result in results:
        # Each picture is named after what it shows.
        assert Path(result["picture"]).name.startswith(result["classes"][0]["label"])
    assert not [p for p in psutil.process_iter(["ppid"]) if p.info["ppid"] == process.pid]
