"""A Triton for each pool, as on Kubernetes: real ones, with the repositories of the command."""

import asyncio
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from convlens.client import Client, Unavailable
from convlens.client.methods import Saliency
from convlens.server.triton.local import LocalTriton
from convlens.workers.main import program
from tests.conftest import running_server

NETWORKS = """\
networks: [{name: shapes}]
pools: {inference: {threads: 1}, analysis: {threads: 1}}
"""


@contextmanager
def triton_of(pool: str, folder: Path) -> Generator[LocalTriton]:
    config = folder / "networks.yaml"
    config.write_text(NETWORKS)
    arguments = ["repository", "--config", str(config), "--gpus", "0", "--pool", pool]
    written = CliRunner().invoke(program, [*arguments, "--out", str(folder / pool)])
    assert written.output == f"served shapes@1-{pool}\n"
    triton = LocalTriton(folder / pool)
    triton._secret = "key"
    asyncio.run(triton.start())
    try:
        yield triton
    finally:
        asyncio.run(triton.stop())


@pytest.mark.slow
def test_pools_that_come_and_go_apart(tmp_path: Path, pictures: list[Path]) -> None:
    with ExitStack() as stack:
        inference = stack.enter_context(triton_of("inference", tmp_path))
        with triton_of("analysis", tmp_path) as analysis:
            url = f"{inference.address},{analysis.address}"
            server = stack.enter_context(
                running_server(engine="triton", triton_url=url, triton_key="key")
            )
            client = stack.enter_context(Client(server.address, max_attempts=1))
            assert client.classify(pictures[0]).top.label == "arrow"
            assert client.explain(pictures[0], [Saliency()])
        # The analysis pool is gone, and the other one goes on.
        with pytest.raises(Unavailable):
            client.explain(pictures[0], [Saliency()])
        assert client.classify(pictures[0]).top.label == "arrow"
