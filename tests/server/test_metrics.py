"""What metrics show, and that their page says so."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from convlens.contract.method_page import choices_of
from convlens.internal.v1.job_pb2 import Stages, Vitals
from convlens.server.contract import RPCS
from convlens.server.facts import AROUND, FIELDS, SEVERAL, SINGLE, Facts, methods_of
from convlens.server.metrics import Metrics, ProcessMetrics, TritonMetrics
from convlens.server.metrics.page import every_metric, metrics_page
from convlens.server.metrics.registry import Registry
from convlens.server.metrics.shared import SharedMetrics
from convlens.v1 import adversarial_pb2, explanation_pb2, synthesis_pb2
from convlens.v1.attack_methods_pb2 import AttackMethod
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.synthesis_methods_pb2 import SynthesisMethod

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
KINDS = {ExplanationMethod, AttackMethod, SynthesisMethod}


def test_metrics_page_is_what_the_registry_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == metrics_page()


def test_nothing_is_in_a_registry_that_is_not_described() -> None:
    metrics, processes = Metrics(), Registry()
    TritonMetrics(metrics)
    ProcessMetrics(processes, float)
    for registry in (metrics.registry, processes):
        text = generate_latest(registry).decode()
        shown = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        assert shown == {each.name for each in registry.described}
    names = [each.name for each in every_metric()]
    assert len(names) == len(set(names))
    assert all(each.meaning.endswith(".") for each in every_metric())


@pytest.mark.parametrize("path", RPCS)
def test_every_request_with_methods_is_known(path: str) -> None:
    """Who adds an RPC with methods has to say where they are."""
    kinds = {kind.DESCRIPTOR for kind in KINDS}
    request = RPCS[path].request.DESCRIPTOR
    for field in request.fields:
        inner = field.message_type
        if inner in kinds:
            assert {**FIELDS, **SINGLE}[request.name] == field.name
        elif inner and kinds & {each.message_type for each in inner.fields}:
            # The plan of an evaluation is looked at when it has come.
            assert inner.name in FIELDS or inner.name in SINGLE
            assert AROUND.get(request.name, "plan") == field.name


@pytest.mark.parametrize(
    ("kind", "request_of"),
    [
        (ExplanationMethod, lambda each: explanation_pb2.ExplainRequest(methods=[each])),
        (AttackMethod, lambda each: adversarial_pb2.AttackRequest(method=each)),
        (AttackMethod, lambda each: adversarial_pb2.RobustnessPlan(attacks=[each])),
        (SynthesisMethod, lambda each: synthesis_pb2.SynthesizeRequest(method=each)),
    ],
)
def test_methods_are_called_as_the_contract_calls_them(kind, request_of) -> None:
    for choice in choices_of(kind):
        method = kind()
        getattr(method, choice.name).SetInParent()
        assert methods_of(request_of(method)) == [choice.name]


def test_several_methods_are_one_label_and_counted_each() -> None:
    request = explanation_pb2.ExplainRequest(network="text of a caller")
    for name in ("saliency", "grad_cam", "saliency"):
        getattr(request.methods.add(), name).SetInParent()
    metrics, facts = Metrics(), Facts()
    facts.methods = methods_of(explanation_pb2.ExplainStreamRequest(request=request))
    assert facts.method == SEVERAL
    metrics.record_call("ExplanationService/ExplainStream", facts, "OK", "", 0.1)
    text = generate_latest(metrics.registry).decode()
    assert 'convlens_methods_total{method="saliency",rpc="ExplanationService/' in text
    assert re.search(r'convlens_methods_total{method="saliency",.*} 2\.0', text)
    assert "text of a caller" not in text
    facts.methods = ["saliency", "saliency"]
    assert facts.method == "saliency"


def test_rows_are_of_the_analysis_pool_and_pictures_of_the_other() -> None:
    metrics = Metrics()
    stages = Stages(batch_images=3, passes=4, micro_batches=0.5, rows=12, padded_rows=4)
    metrics.record_stages(stages, "analysis", 0.02)
    metrics.record_stages(Stages(batch_images=8), "inference", 0.02)
    text = generate_latest(metrics.registry).decode()
    for line in (
        "convlens_analysis_rows_total 12.0",
        "convlens_analysis_padded_rows_total 4.0",
        "convlens_analysis_passes_total 4.0",
        "convlens_batch_images_sum 8.0",
        'convlens_stage_seconds_sum{pool="analysis",stage="admit"} 0.02',
    ):
        assert line in text


def test_what_is_gone_is_shown_no_more() -> None:
    metrics = Metrics()
    triton = TritonMetrics(metrics)
    for address in ("one:8001", "two:8001"):
        triton.watch_triton(address, lambda: 3, lambda: True)
        for model in ("shapes@1-inference", "shapes@1-analysis", "something else"):
            triton.note_vitals(model, address, Vitals(queued=2, oldest_us=500_000))

    def shown(word: str) -> int:
        text = generate_latest(metrics.registry).decode()
        return sum(word in line for line in text.splitlines() if line[0] != "#")

    assert (shown('triton="one:8001"'), shown("something")) == (12, 0)
    assert shown('convlens_queue_age_seconds{network="shapes@1",pool="analysis"') == 2
    triton.forget_model("shapes@1-analysis", "one:8001")
    assert shown('triton="one:8001"') == 7
    triton.forget_triton("one:8001")
    assert (shown('triton="one:8001"'), shown('triton="two:8001"')) == (0, 12)

    metrics.watch_queue("shapes@1", "inference", lambda: 7, lambda: 0.5)
    metrics.watch_cost("analysis", lambda: 42)
    assert shown('convlens_inflight_cost{pool="analysis"} 42.0') == 1
    assert shown('triton=""} 7.0') == 1
    metrics.forget_queue("shapes@1", "inference")
    assert shown('triton=""} 7.0') == 0


def write_counts(folder: Path, pid: int, count: float, bucket: float) -> None:
    """The files of a process, as prometheus_client writes them."""
    for kind, name, labels, value in (
        ("counter", "calls_total", {"rpc": "a"}, count),
        ("histogram", "seconds_bucket", {"le": "1.0"}, bucket),
        ("histogram", "seconds_bucket", {"le": "+Inf"}, 1.0),
        ("histogram", "seconds_sum", {}, 9.0),
    ):
        values = MmapedDict(str(folder / f"{kind}_{pid}.db"))
        metric = name.rpartition("_")[0]
        values.write_value(mmap_key(metric, name, [*labels], [*labels.values()], "x"), value, 0.0)
        values.close()


def test_what_ended_processes_counted_is_kept_in_few_files(tmp_path: Path) -> None:
    live = [1, 2]
    shared = SharedMetrics(tmp_path, lambda: live)
    registry = Registry()
    registry.register(shared)
    told = {"name": "most", "meaning": "x", "labels": ["of"], "across": "max"}
    for pid in live:
        write_counts(tmp_path, pid, 10.0 * pid, 3.0)
        gauges = [{**told, "values": [[["a"], pid]]}]
        gauges.append({**told, "name": "all", "across": "sum", "values": [[["a"], pid]]})
        (tmp_path / f"gauges_{pid}.json").write_text(json.dumps(gauges))

    def shown() -> set[str]:
        text = generate_latest(registry).decode()
        return {line for line in text.splitlines() if line[0] != "#"}

    counted = {'calls_total{rpc="a"} 30.0', 'seconds_bucket{le="1.0"} 6.0', "seconds_sum 18.0"}
    counted |= {'seconds_bucket{le="+Inf"} 8.0', "seconds_count 8.0"}
    assert shown() == counted | {'most{of="a"} 2.0', 'all{of="a"} 3.0'}
    live.remove(2)
    shared.forget(2)
    assert shown() == counted | {'most{of="a"} 1.0', 'all{of="a"} 1.0'}
    # Its number may be another's by now, which counts from the beginning.
    write_counts(tmp_path, 2, 5.0, 0.0)
    (tmp_path / "counter_3.db").touch()
    for pid in (2, 1, 3):
        shared.forget(pid)
    live.clear()
    assert 'calls_total{rpc="a"} 35.0' in shown()
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"counter_ended.db", "histogram_ended.db"}


def test_what_may_happen_to_a_worker_is_counted_from_0() -> None:
    metrics = Metrics()
    triton = TritonMetrics(metrics)
    triton.note_vitals("shapes@1-inference", "one:8001", Vitals())
    text = generate_latest(metrics.registry).decode()
    worker = 'model="shapes@1-inference"'
    for line in (
        f"convlens_triton_dead_worker_reports_total{{{worker}}} 0.0",
        f'convlens_triton_healings_total{{{worker},outcome="failed"}} 0.0',
        f'convlens_triton_canaries_total{{{worker},outcome="unanswered"}} 0.0',
        'convlens_triton_retries_total{place="another"} 0.0',
    ):
        assert line in text
