"""A real Prometheus finds every metric of the table, and what dashboards and rules ask for."""

import asyncio
import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml

from convlens.client import Client, NotFound
from convlens.client.methods import Saliency
from convlens.contract import Failure
from convlens.server.metrics.page import every_metric
from convlens.server.triton.local import free_ports
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from deploy.grafana.write import FOLDER
from tests.conftest import RunningServer
from tests.deploy.queries import OF_TRITON, RULES, rules
from tests.e2e.shared_triton import replica_of
from tests.server.access import serving as quiet
from tests.server.processes import Holding, Running, serving, started

pytestmark = pytest.mark.asyncio(loop_scope="module")

INSTALL = (
    "there is no prometheus on the path, which this test asks what it finds: "
    "apt-get install --no-install-recommends prometheus"
)
SECONDS = 60.0
# Those of every series, and of the buckets of a histogram.
OTHERS = {"__name__", "instance", "job", "le"}
# Panels that show zeros where all is well, or on a CPU.
ZEROS = {
    *("Alerts", "Longest wait", "Age of the queue", "Jobs that wait", "Jobs that wait by network"),
    *("Jobs that wait, for each Triton", "Jobs that wait at each Triton", "Jobs at each Triton"),
    *("Cost in flight", "Calls under way", "Memory of GPUs", "Memory of GPUs by network"),
    *("Processes that were started again", "Workers that were started again"),
    *("Calls that met a dead worker", "Canaries", "Jobs tried once more", "Clocks"),
    *("Failed answers", "Burning the error budget"),
}


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Generator[str]:
    """A Prometheus that asks the addresses of these jobs; the address of its own API."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.fail(INSTALL)
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [*addresses]}]}
        for name, addresses in targets.items()
    ]
    pace = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
    config = {"global": pace, "rule_files": [str(each) for each in RULES], "scrape_configs": jobs}
    file, (port, _) = folder / "prometheus.yml", free_ports()
    file.write_text(yaml.safe_dump(config))
    command = [binary, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command) as process:
        try:
            until_ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def until_ready(api: str) -> None:
    """Waits for a Prometheus that answers: it refuses connections first, and then calls (503)."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"{api}/-/ready"):
            return
        time.sleep(0.05)
    pytest.fail(f"Prometheus is not ready after {SECONDS:g} s")


def answer(api: str, place: str, **asked: str) -> Any:
    """What Prometheus says at a place of its API."""
    try:
        with urllib.request.urlopen(
            f"{api}/api/v1/{place}?{urllib.parse.urlencode(asked)}"
        ) as page:
            return json.loads(page.read())["data"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{asked}: {error.read().decode()}") from None


def series(api: str, name: str) -> list[dict[str, str]]:
    """The labels of every series of this name; also where the last scrape came too late."""
    query = f"last_over_time({name}[1m])"
    return [each["metric"] for each in answer(api, "query", query=query)["result"]]


def values(api: str, query: str) -> list[float]:
    """The numbers that a query of a dashboard finds, with all networks and namespaces."""
    for variable, value in {"__rate_interval": "1m", "namespace": ".*", "network": ".*"}.items():
        query = query.replace(f"${variable}", value)
    found = [float(each["value"][1]) for each in answer(api, "query", query=query)["result"]]
    return [value for value in found if math.isfinite(value)]


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


def unseen(api: str) -> set[str]:
    """What the calls of `System.work` show beside names, and is not found."""
    calls = series(api, "convlens_requests_total")
    seen = {value for each in calls for value in (each.get("network"), each.get("method"))}
    seen |= {each["model"] for each in series(api, "nv_inference_count")}
    wanted = {"shapes@1", "old@1", "saliency", "shapes@1-inference", "shapes@1-analysis"}
    return wanted - seen | {name for name in OF_TRITON if not series(api, name)}


def ask(address: str, pictures: list[Path]) -> None:
    """Calls that end well and badly, streams among them."""
    with Client(address) as client:
        client.explain(pictures[0], [Saliency()])
        list(client.classify_stream(pictures[:2]))
        with pytest.raises(NotFound):
            list(client.extract_features_stream(pictures[:1], ["nowhere"]))
        with pytest.raises(NotFound):
            client.classify(pictures[0], network="nowhere")
        with pytest.raises(NotFound):
            client.explain(pictures[0], [Saliency()], network="nowhere")


def have_a_canary(server: RunningServer) -> None:
    """Lets a pool look as if it had been silent for long: it is asked within two seconds."""
    for model in replica_of(server)._models.values():
        model.last_reply = 0.0


async def meet_a_dead_worker(running: Running, triton: Holding) -> None:
    """It is restarted, and the job tried again."""
    triton.dead["old@1-inference"] = 0
    await running.classify()


async def ask_quiet(address: str, files: quiet.Files) -> None:
    """The same again and again: it is kept, and then there is too much of it."""
    body = ClassifyRequest(images=[Image(encoded=b"x")]).SerializeToString()
    async with grpc.aio.secure_channel(address, files.credentials()) as channel:
        for _ in range(3):
            with suppress(Failure):
                await quiet.ask(channel, quiet.CLASSIFY, body, quiet.bearer("t-lab"))


@dataclass
class System:
    """What Prometheus looks at, and who makes it work."""

    api: str
    servers: Sequence[RunningServer]
    pictures: list[Path]
    kept: str
    files: quiet.Files

    async def work(self) -> None:
        """Calls of all kinds, at all servers."""
        for server in self.servers:
            await asyncio.to_thread(ask, server.address, self.pictures)
        await ask_quiet(self.kept, self.files)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    servers: Callable[[str], RunningServer],
    pictures: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[System]:
    """Servers of each engine, one of several processes, one with TLS, tokens and a cache."""
    embedded, local = servers("embedded"), servers("triton-local")
    fake, folder = Holding(), tmp_path_factory.mktemp("prometheus")
    (folder / "processes").mkdir()
    files = quiet.Files(folder)
    token = quiet.entry("t-lab", requests_per_second=0.5, requests_burst=2)
    tokens = quiet.write(folder / "tokens.yaml", token)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(fake.serve())
        running = await serving(await enter(started(fake, folder / "processes")))
        settings: Any = {"tokens": tokens, "cache_bytes": 2**20, "metrics_listen": "127.0.0.1:0"}
        kept = await enter(quiet.serving(**settings, **files.settings))
        have_a_canary(local)
        await meet_a_dead_worker(running, fake)
        metrics = [server.gateway.metrics_address for server in (embedded, local)]
        targets = {
            "convlens-server": [*map(str, [*metrics, running.metrics, kept.metrics_address])],
            "convlens-triton": [local.engine._addresses._triton.metrics_address],
        }
        with prometheus(folder, targets) as api:
            yield System(api, (embedded, local), pictures, str(kept.address), files)


async def until_none(look: Callable[[], Any], work: Callable[[], Any]) -> None:
    """Works, and looks again, until nothing is missing."""
    until = time.monotonic() + SECONDS
    while missed := await asyncio.to_thread(look):
        assert time.monotonic() < until, missed
        await work()


async def test_prometheus_finds_every_metric(system: System) -> None:
    api = system.api
    await until_none(lambda: missing(api), system.work)
    await until_none(lambda: unseen(api), system.work)


async def test_every_panel_of_the_dashboards_shows_something(system: System) -> None:
    boards = [json.loads(file.read_text()) for file in FOLDER.iterdir()]
    panels = [each for board in boards for each in board["panels"] if each["type"] != "row"]
    assert {panel["title"] for panel in panels} > ZEROS

    def empty() -> list[str]:
        absent: list[str] = []
        for panel in panels:
            found = [values(system.api, target["expr"]) for target in panel["targets"]]
            if not all(found) or (panel["title"] not in ZEROS and not any(map(any, found))):
                absent.append(panel["title"])
        return absent

    await until_none(empty, system.work)


async def test_every_rule_is_computed(system: System) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}

    def amiss() -> list[Any]:
        found = [rule for group in answer(system.api, "rules")["groups"] for rule in group["rules"]]
        bad = [rule for rule in found if rule["health"] != "ok"]
        return bad + [name for name in recorded if not series(system.api, name)]

    await until_none(amiss, system.work)
    groups = answer(system.api, "rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(rules())
