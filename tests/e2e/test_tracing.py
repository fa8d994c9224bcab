"""One trace, from the program that calls to the stages of its job."""

import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from convlens.client import Client
from convlens.client.methods import FGSM, Saliency
from tests.collector import STAGES, Collector, collecting, seconds_of, told
from tests.conftest import running_server
from tests.snippets import Page, dead_links, run

PAGE = Page("tracing")


def test_the_page_leads_somewhere() -> None:
    assert not dead_links(PAGE)
    for name in ("traces", "traces_ratio"):
        assert f"| `{name}` |" in PAGE.text


def calls(client: Client, pictures: list[Path]) -> None:
    with trace.get_tracer("program").start_as_current_span("program"):
        client.classify(pictures[0])
        client.explain(pictures[0], Saliency())
        list(client.classify_stream(pictures[:3]))
        labelled = [(path.name, path, path.name.partition("-")[0]) for path in pictures[:2]]
        list(client.evaluate_robustness(labelled, FGSM(), epsilons=[4 / 255]))


def computed(collector: Collector, job: Span) -> bool:
    """Whether a job computed anything; it has all stages, each in its time."""
    stages = collector.children(job)
    assert [span.name for span in stages] == STAGES
    return seconds_of(stages[STAGES.index("compute")]) > 0


def test_one_trace_from_the_program_to_the_stages(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with collecting() as collector:
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(collector.url)))
        with (
            running_server(engine="embedded", traces=collector.url) as server,
            Client(server.address) as client,
        ):
            calls(client, pictures)
            page = PAGE.blocks("python").replace("http://127.0.0.1:4317", collector.url)
            run(server, tmp_path, sys.executable, "-W", "error", "-c", page)
        provider.shutdown()
        [program] = [span for span in collector.spans if span.name == "program"]
        [look] = [span for span in collector.spans if span.name == "look"]
        assert {span.trace_id for span in collector.spans} == {program.trace_id, look.trace_id}
        # As the page has it: the program, the client, the server, the stages.
        [[taken]] = [collector.children(sent) for sent in collector.children(look)]
        assert computed(collector, taken)
        classify, explain, stream, evaluation = collector.children(program)
        assert stream.name == "convlens.v1.ClassificationService/ClassifyStream"
        for sent in (classify, explain):
            [taken] = collector.children(sent)
            assert taken.name == sent.name
            assert told(taken)["convlens.network"] == "shapes@1"
            assert computed(collector, taken)
        # The plan of an evaluation is a job, too, and nothing is computed for it.
        for sent, jobs, pictured in ((stream, 3, 3), (evaluation, 3, 2)):
            [taken] = collector.children(sent)
            requests = collector.children(taken)
            assert len(requests) == jobs
            assert sum(computed(collector, request) for request in requests) == pictured
