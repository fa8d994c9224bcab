"""The download of weights before a pod starts: what is not as listed is never there."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.kubectl import KUBERNETES

FETCH = KUBERNETES / "components/weights-download/fetch.py"
CONTENT = bytes(range(256)) * 8192
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.safetensors").write_bytes(CONTENT)
    handler = partial(Quiet, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(tmp_path: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    listed = tmp_path / "weights.txt"
    listed.write_text("\n".join(("# SHA-256  name  address", *lines)))
    (tmp_path / "weights").mkdir(exist_ok=True)
    command = [sys.executable, str(FETCH), str(listed), str(tmp_path / "weights")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_what_is_listed_is_there_and_fetched_once(address: str, tmp_path: Path) -> None:
    line = f"{DIGEST}  mine.safetensors  {address}/a.safetensors"
    done = fetch(tmp_path, line)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "weights/mine.safetensors"
    assert file.read_bytes() == CONTENT
    again = fetch(tmp_path, line.replace(address, "http://127.0.0.1:1"))
    assert again.returncode == 0 and "is here" in again.stdout
    # One that was spoiled is replaced.
    file.write_bytes(b"spoiled")
    assert fetch(tmp_path, line).returncode == 0
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{'0' * 64} a {{}}/a.safetensors", f"has the SHA-256 {DIGEST}, and the list says 000"),
        (f"{DIGEST} a {{}}/other", "HTTP Error 404"),
        (f"{DIGEST} a http://127.0.0.1:1/a", "Connection refused"),
        (f"{DIGEST} ../a {{}}/a.safetensors", "weights.txt:2: must be SHA-256, a plain name"),
        (f"{DIGEST} {{}}/a.safetensors", "weights.txt:2: must be SHA-256, a plain name"),
    ],
)
def test_what_is_not_ends_with_a_line(address: str, tmp_path: Path, line: str, said: str) -> None:
    done = fetch(tmp_path, line.format(address))
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "weights").iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_the_list_that_is_shipped_is_understood(tmp_path: Path) -> None:
    shipped = FETCH.with_name("weights.txt").read_text()
    assert fetch(tmp_path, shipped).returncode == 0
