"""docs/triton.md: its commands start a Triton and a server, and the model says what it misses."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import grpc
import psutil
import pytest

from convlens.server.triton.bundle import find_bundle
from convlens.server.triton.home import Home
from convlens.server.triton.local import free_ports
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from convlens.workers.triton import repository
from tests.conftest import classification, server_process

PAGE = (Path(__file__).parents[2] / "docs/triton.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path, pictures: list[Path]) -> None:
    write, start, serve = BLOCKS
    home, (port, metrics) = Home(find_bundle()), free_ports()
    assert serve.splitlines()[-1] == "convlens-server --engine triton --triton-url 127.0.0.1:8001"
    # What an image of Triton brings: the program, and its backend with the stub.
    program = tmp_path / "bin/tritonserver"
    program.parent.mkdir()
    flags = f"--backend-directory={home.backends} --grpc-address=127.0.0.1"
    program.write_text(f'#!/bin/sh\nexec {find_bundle().server} {flags} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "networks.yaml").write_text("networks: [{name: shapes}]")
    environment = home.environment() | {"TRITON_KEY": "s3cret"}
    del environment["CONVLENS_SITE"]
    environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    script = "set -e\n" + write + start.replace("8001", str(port)).replace("8002", str(metrics))
    with subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=environment) as triton:
        try:
            url = ("--engine", "triton", "--triton-url", f"127.0.0.1:{port}")
            with (
                server_process(*url, "--triton-key", "s3cret") as (_, address),
                grpc.insecure_channel(address) as channel,
            ):
                request = ClassifyRequest(images=[Image(encoded=pictures[0].read_bytes())])
                assert classification(channel).Classify(request, timeout=30).results
        finally:
            for child in psutil.Process(triton.pid).children(recursive=True):
                child.kill()
            triton.kill()
            home.clear()


def test_a_model_whose_packages_are_not_found_names_the_way_out(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in os.environ if name != "CONVLENS_SITE"}
    # As the stub runs it: isolated, and without a virtual environment.
    command = [os.path.realpath(sys.executable), "-I", "-S", str(repository.MODEL)]
    for place, words in (("", "its own folders"), (str(tmp_path), str(tmp_path))):
        result = subprocess.run(
            command,
            env=environment | {"CONVLENS_SITE": place},
            capture_output=True,
            text=True,
            check=False,
        )
        last = result.stderr.strip().splitlines()[-1]
        running = f"{sys.version_info[0]}.{sys.version_info[1]}"
        assert last.startswith(
            f"RuntimeError: No module named 'convlens'. Triton's Python {running}"
        )
        assert f"looked in {words}: set CONVLENS_SITE to the site-packages" in last


def test_packages_that_can_be_imported_anyway_need_no_variable() -> None:
    """All that is missing here is what Triton's stub itself brings."""
    site = sysconfig.get_path("purelib")
    environment = {name: os.environ[name] for name in os.environ if name != "CONVLENS_SITE"}
    result = subprocess.run(
        [sys.executable, "-I", str(repository.MODEL)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert site and "No module named 'triton_python_backend_utils'" in result.stderr
