"""Runs against a real server: figures, limits, and what is said at the start."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.loadtest.cli.program import program
from convlens.loadtest.results.model import Result
from tests.conftest import RunningServer
from tests.loadtest.conftest import Run

NO_PICTURE = base64.b64encode(b"no picture").decode()
CALLS = {
    "classify": {"rpc": "Classify", "weight": 4, "images": 2},
    "stream": {"rpc": "ClassifyStream", "messages": 3},
    "progress": {"rpc": "ExplainStream", "body": {"methods": [{"saliency": {}}]}},
    "grow": {
        "rpc": "Synthesize",
        "body": {"method": {"class_model": {"target": {"label": "star"}, "steps": 2}}},
    },
    "spoiled": {"rpc": "Classify", "body": {"images": [{"encoded": NO_PICTURE}]}},
}


@pytest.fixture(scope="module")
def everything(convlens: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What came of all kinds of calls, by two tenants."""
    folder = tmp_path_factory.mktemp("run")
    document = {
        "calls": CALLS,
        "tenants": {"shop": {"weight": 3}, "lab": {"priority": "batch"}},
        "phases": [
            {"name": "warm-up", "duration": 0.4, "open": {"rate": 10}, "warm_up": True},
            {"name": "even", "duration": 2, "open": {"rate": 12, "arrivals": "constant"}},
            {"name": "callers", "duration": 0.5, "closed": {"callers": 2, "mix": {"classify": 1}}},
        ],
    }
    path, output = folder / "mine.yaml", folder / "result.json"
    path.write_text(json.dumps(document))
    arguments = [path, "--server", convlens.address, "--metrics", convlens.metrics_url]
    arguments += ["--output", output, "--processes", 2]
    result = CliRunner().invoke(program, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert "spoiled" in result.output and "inference: compute" in result.output
    return Result.model_validate_json(output.read_text())


def test_what_is_due_is_sent_and_answered(everything: Result) -> None:
    even = everything.phase("even")
    assert even and even.figures.due == even.figures.answered == 24
    assert even.figures.reasons == {}
    assert sum(each.due for each in even.calls.values()) == 24
    assert sum(each.due for each in even.tenants.values()) == 24
    assert even.tenants["shop"].due > even.tenants["lab"].due > 0
    callers = everything.phase("callers")
    assert callers and list(callers.calls) == ["classify"] and callers.figures.due >= 2
    assert everything.total.due == even.figures.due + callers.figures.due, "warm-up is left out"
    times = everything.total.latency
    assert times and 0 < times.min <= times.p50 <= times.p99 <= times.p99_9 <= times.max < 10


def test_parts_of_answers_that_fail_are_told(everything: Result) -> None:
    spoiled = everything.calls["spoiled"]
    assert spoiled.answered == spoiled.incomplete == spoiled.broken["IMAGE_UNREADABLE"] > 0
    assert spoiled.good == 0
    assert everything.calls["classify"].good == everything.calls["classify"].due
    assert any("calls.spoiled: a part of the answer failed" in w for w in everything.warnings)


def test_streams_have_a_first_message(everything: Result) -> None:
    grown = everything.calls.get("grow") or everything.calls["progress"]
    assert grown.first and grown.latency and grown.first.p50 <= grown.latency.p50
    assert everything.calls["classify"].first is None


def test_the_stages_of_the_server_stand_beside_it(everything: Result) -> None:
    assert everything.server
    stages = {(each.pool, each.stage): each for each in everything.server.stages}
    for stage in ("admit", "queue", "decode", "compute", "encode"):
        assert stages["inference", stage].count > 0
    compute = stages["inference", "compute"]
    assert 0 < compute.p50 <= compute.p99
    assert everything.networks[0].startswith("shapes")
    assert everything.total.latency and compute.mean < everything.total.latency.max


def test_the_generator_says_how_it_was(everything: Result) -> None:
    late = everything.generator.lateness
    assert late and late.count == everything.total.due
    assert late.p50 < 0.05
    assert 0 < everything.generator.busy < 1


ONE = {"name": "one", "duration": 0.3, "open": {"rate": 10}}


def test_limits_become_an_exit_code(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    path = scenario({**ONE, "assert": ["errors == 0%"]})
    command = [path, "--server", fake.address, "--quiet", "--assert"]
    broken = invoke(*command, "one: p50 < 1us")
    assert broken.exit_code == 3
    lines = [line.split() for line in broken.stdout.splitlines()]
    assert [line[:5] for line in lines if line[:1] in (["holds"], ["broken"])] == [
        ["broken", "one:", "p50", "<", "1us"],
        ["holds", "one:", "errors", "==", "0%"],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--assert", "p99 < 3"], "p99 is a time"),
        (["--assert", "two: p99 < 3s"], "there is no 'two'; there are one, classify"),
        (["--output", "/nowhere/result.json"], "there is no folder /nowhere"),
        (["--html", "/"], "is a directory"),
        (["--metrics", "http://127.0.0.1:1/metrics"], "cannot be read: "),
        (["--metrics", "127.0.0.1"], "is no address of metrics"),
        (["--metrics", "http://127.0.0.1:port/metrics"], "cannot be read: nonnumeric port"),
        (["--metrics", "http://127.0.0.1:1/a b"], "cannot be read: URL can't contain"),
        (["--set", "phases.two.duration=3"], "there is no 'two'"),
        (["--server", "nowhere"], "it must be 'host:port'"),
        (["--server", "127.0.0.1:1"], "No server answers at 127.0.0.1:1"),
        (["--processes", "0"], "0 is not in the range"),
    ],
)
def test_what_is_wrong_is_said_before_the_load(
    fake: FakeServer,
    invoke: Run,
    scenario: Callable[..., Path],
    arguments: list[str],
    said: str,
) -> None:
    server = [] if "--server" in arguments else ["--server", fake.address]
    result = invoke(scenario(ONE), *server, *arguments, "--quiet")
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("convlens-loadtest: ") and said in result.stderr
    assert "Traceback" not in result.output


def test_metrics_at_the_port_of_grpc_are_told(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    url = f"http://{fake.address}/metrics"
    result = invoke(scenario(ONE), "--server", fake.address, "--metrics", url)
    assert result.exit_code == 1 and "it speaks no HTTP/1." in result.stderr


def test_a_result_that_cannot_be_written_is_shown(
    fake: FakeServer,
    invoke: Run,
    scenario: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    usual = fake.answers["Classify"]

    def removing(request: Any) -> Any:
        if folder.exists():
            folder.rmdir()
        return usual(request) if callable(usual) else usual

    fake.answers["Classify"] = removing
    arguments = [scenario(ONE), "--server", fake.address, "--output", folder / "result.json"]
    result = invoke(*arguments)
    assert result.exit_code == 1 and "cannot be written" in result.stderr
    assert "due" in result.stdout and "100 %" in result.stdout


def test_a_file_that_is_there_is_kept(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text("mine")
    arguments = [scenario(ONE), "--server", fake.address, "--output", tmp_path / "r.json"]
    result = invoke(*arguments)
    assert result.exit_code == 1 and "--overwrite" in result.stderr
    assert fake.requests == []


def test_a_call_that_can_never_succeed_is_said_before_the_load(
    convlens: RunningServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    result = invoke(scenario(ONE, network="resnet999"), "--server", convlens.address)
    assert result.exit_code == 1
    assert "calls.classify: No network 'resnet999' is served" in result.stderr


def test_another_server_is_told(invoke: Run, scenario: Callable[..., Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        other = grpc.server(pool)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        result = invoke(scenario(ONE), "--server", f"127.0.0.1:{port}")
        other.stop(None).wait()
    assert result.exit_code == 1
    assert "is no ConvLens server: it has no ListNetworks" in result.stderr


def test_tenants_say_who_they_are(
    fake: FakeServer,
    invoke: Run,
    scenario: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "lab.token").write_text("lab-token\n")
    tenants = {
        "lab": {"token_file": "lab.token", "priority": "batch"},
        "shop": {"token_env": "SHOP_TOKEN"},
    }
    path = scenario({**ONE, "open": {"rate": 60}}, tenants=tenants)
    missing = invoke(path, "--server", fake.address)
    assert missing.exit_code == 1 and "no such variable is set" in missing.stderr
    monkeypatch.setenv("SHOP_TOKEN", "shop-token")
    result = invoke(path, "--server", fake.address, "--json")
    assert result.exit_code == 0, result.output
    assert "lab-token" not in result.output and "shop-token" not in result.output
    seen = {
        (each.metadata["authorization"], each.metadata["x-convlens-priority"])
        for each in fake.requests[-8:]
    }
    assert seen == {("Bearer lab-token", "batch"), ("Bearer shop-token", "interactive")}


def test_refused_requests_may_be_sent_again(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    usual = fake.answers["Classify"]
    refusal = Failure(
        ErrorReason.ERROR_REASON_OVERLOADED, detail="as much as it can", retry_after=0.02
    )
    refusals = list[None]()

    def refusing(request: Any) -> Any:
        if refusals:
            refusals.pop()
            raise refusal
        return usual(request) if callable(usual) else usual

    fake.answers["Classify"] = refusing
    phase = {**ONE, "open": {"rate": 40, "arrivals": "constant"}}
    # One for the trial before the load. That a refusal counts without retries, test_overload shows.
    refusals += [None] * 7
    again = invoke(scenario(phase, retries={"attempts": 8}), "--server", fake.address, "--json")
    total = json.loads(again.stdout)["total"]
    assert (total["good"], total["reasons"]) == (12, {})
    assert total["attempts"] == 18 and total["latency"]["max"] >= 0.02
