"""Weights with a name: found, downloaded, proved, and asked for where there is no network."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from convlens.workers.builders import BuildError
from convlens.workers.builders.downloads import fetched, place_of

CONTENT = b"weights of some network"
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A real web server on loopback, and its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    (folder / "net-00000000.pth").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in the place where torch keeps its files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("http_proxy", raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_the_place_is_torchs_own(cache: Path) -> None:
    assert place_of("https://example.org/a/net.pth?download=1") == cache / "net.pth"
    assert Path(torch.hub.get_dir()) == cache.parent


def test_a_file_is_downloaded_once(web: str, cache: Path) -> None:
    file = fetched(f"{web}/{NAME}", "the weights")
    assert file == cache / NAME
    assert file.read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert file.stat().st_mode & 0o044 == 0o044, "others may read it, too"
    # Nobody is asked any more.
    assert fetched(f"http://127.0.0.1:1/{NAME}", "the weights") == file


def test_a_file_brought_by_hand_is_taken(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT)
    assert fetched(f"http://127.0.0.1:1/{NAME}", "the weights") == cache / NAME


def test_another_file_of_that_name_is_refused(web: str, cache: Path) -> None:
    url = f"{web}/net-00000000.pth"
    with pytest.raises(BuildError) as caught:
        fetched(url, "the weights of net")
    place = cache / "net-00000000.pth"
    assert str(caught.value) == (
        f"{place} is not the weights of net: its SHA-256 should begin 00000000; "
        f"bring {url} to {place}, or name another file with weights:"
    )


def test_without_a_network_the_error_says_which_file_to_put_where(cache: Path) -> None:
    url = "http://nowhere.invalid/net.pth"
    with pytest.raises(BuildError) as caught:
        fetched(url, "the weights of net")
    assert caught.value.key == "weights"
    assert str(caught.value) == (
        "the weights of net cannot be downloaded (there is no network: the host's name is not "
        f"known); bring {url} to {cache / 'net.pth'}, or name another file with weights:"
    )


def test_a_server_that_does_not_have_it(web: str, cache: Path) -> None:
    with pytest.raises(BuildError, match="HTTP Error 404"):
        fetched(f"{web}/gone.pth", "the weights")
    with pytest.raises(BuildError, match="Connection refused"):
        fetched("http://127.0.0.1:1/net.pth", "the weights")
    assert list(cache.iterdir()) == []
