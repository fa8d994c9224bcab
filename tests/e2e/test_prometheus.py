"""A real Prometheus finds every metric that the table has, with its labels."""

import asyncio
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from convlens.client import Client, NotFound
from convlens.client.methods import Saliency
from convlens.server.metrics.page import every_metric
from convlens.server.triton.local import free_ports
from tests.conftest import RunningServer
from tests.e2e.shared_triton import replica_of
from tests.server.processes import Holding, Running, serving, started

INSTALL = (
    "there is no prometheus on the path, which this test asks what it finds: "
    "apt-get install --no-install-recommends prometheus"
)
SECONDS = 30.0
# Those of every series, and of the buckets of a histogram.
OTHERS = {"__name__", "instance", "job", "le"}


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Generator[str]:
    """A Prometheus that asks these addresses; the address of its own API."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.fail(INSTALL)
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [address]}]}
        for name, address in targets.items()
    ]
    pace = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    file, (port, _) = folder / "prometheus.yml", free_ports()
    file.write_text(yaml.safe_dump({"global": pace, "scrape_configs": jobs}))
    command = [binary, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def series(api: str, name: str) -> list[dict[str, str]]:
    """The labels of every series of this name; none while Prometheus starts."""
    asked = urllib.parse.urlencode({"query": name})
    try:
        with urllib.request.urlopen(f"{api}/api/v1/query?{asked}", timeout=5) as page:
            return [each["metric"] for each in json.loads(page.read())["data"]["result"]]
    except urllib.error.URLError:
        return []


def missing(api: str) -> dict[str, set[str]]:
    """The metrics of the table that are not found, each with the labels that no series has."""
    absent: dict[str, set[str]] = {}
    for metric in every_metric():
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        for part in parts:
            found = series(api, metric.name + part)
            labels = {label for each in found for label in each}
            assert labels <= {*metric.labels, *OTHERS}, f"{metric.name}: what the table has not"
            if not found or set(metric.labels) - labels:
                absent[metric.name + part] = set(metric.labels) - labels
    return absent


def ask(address: str, pictures: list[Path]) -> None:
    """Calls that end well and badly, streams among them."""
    with Client(address) as client:
        client.explain(pictures[0], [Saliency()])
        list(client.classify_stream(pictures[:2]))
        with pytest.raises(NotFound):
            list(client.extract_features_stream(pictures[:1], ["nowhere"]))
        with pytest.raises(NotFound):
            client.classify(pictures[0], network="nowhere")


def have_a_canary(server: RunningServer) -> None:
    """Lets a pool look as if it had been silent for long: it is asked within two seconds."""
    for model in replica_of(server)._models.values():
        model.last_reply = 0.0


async def meet_a_dead_worker(running: Running, triton: Holding) -> None:
    """It is restarted, and the job tried again."""
    triton.dead["old@1-inference"] = 0
    await running.classify()


async def test_prometheus_finds_every_metric(
    servers: Callable[[str], RunningServer], pictures: list[Path], tmp_path: Path
) -> None:
    embedded, local = servers("embedded"), servers("triton-local")
    fake, folder = Holding(), tmp_path / "processes"
    folder.mkdir()
    async with fake.serve(), started(fake, folder) as process:
        for server in (embedded, local):
            await asyncio.to_thread(ask, server.address, pictures)
        have_a_canary(local)
        running = await serving(process)
        await meet_a_dead_worker(running, fake)
        targets = {
            "embedded": str(embedded.gateway.metrics_address),
            "triton-local": str(local.gateway.metrics_address),
            "processes": running.metrics,
            "triton": local.engine._addresses._triton.metrics_address,
        }
        with prometheus(tmp_path, targets) as api:
            until = time.monotonic() + SECONDS
            while (absent := await asyncio.to_thread(missing, api)) and time.monotonic() < until:
                await asyncio.sleep(0.25)
            assert absent == {}
            calls = series(api, "convlens_requests_total")
            models = {each["model"] for each in series(api, "nv_inference_count")}
    assert {each["network"] for each in calls if "network" in each} == {"shapes@1", "old@1"}
    assert {each["method"] for each in calls if "method" in each} >= {"saliency"}
    assert {"shapes@1-inference", "shapes@1-analysis"} <= models
