"""Traces cost callers nothing: off, and while their collector is away."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from convlens.server.main import main
from convlens.server.settings import SettingsError, load_settings
from convlens.server.tracing import spans
from convlens.server.tracing.delivery import Delivery
from convlens.server.triton.local import free_ports
from tests.collector import collecting
from tests.server.access.serving import CLASSIFY, ask, until
from tests.server.tracing.staged import REQUEST, traced

ROOT = Path(__file__).parents[3]
BODY = REQUEST.SerializeToString()
OFF = """
import asyncio, sys
from tests.server.access.serving import CLASSIFY, ask
from tests.server.tracing.staged import REQUEST, parent, traced

async def run():
    async with traced() as (engine, channel):
        await ask(channel, CLASSIFY, REQUEST.SerializeToString(), parent())

asyncio.run(run())
found = [name for name in sys.modules if name.startswith("opentelemetry")]
assert not found, found
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", OFF], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


def test_headers_for_the_collector_that_cannot_be_read_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer secret-271828")
    delivery = Delivery("http://127.0.0.1:9")
    delivery.shutdown()
    assert "Header format invalid" in caplog.text
    assert "(not shown)" in caplog.text
    assert "secret" not in caplog.text


async def test_a_collector_that_is_away_is_told_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port, _ = free_ports()
    url = f"http://127.0.0.1:{port}"
    with structlog.testing.capture_logs() as lines:

        def events() -> list[str]:
            return [line["event"] for line in lines if line["event"].startswith("traces")]

        # The collector is there until all has gone out.
        with ExitStack() as later:
            async with traced(traces=url) as (_, channel):
                await ask(channel, CLASSIFY, BODY)
                await until(events)
                for _ in range(5):
                    await ask(channel, CLASSIFY, BODY, [("tracestate", "none,,=")])
                collector = later.enter_context(collecting(port))
                while not collector.spans:
                    await ask(channel, CLASSIFY, BODY)
    assert events() == ["traces not delivered", "traces delivered again"]
    assert not [record for record in caplog.records if "opentelemetry" in record.name]


async def test_nobody_waits_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.2)
    with collecting() as collector:
        collector.gate.clear()
        async with traced(traces=collector.url) as (_, channel):
            for _ in range(10):
                begun = time.monotonic()
                await ask(channel, CLASSIFY, BODY)
                assert time.monotonic() - begun < 1
            begun = time.monotonic()
        # What the server waits for at its end, and no more.
        assert time.monotonic() - begun < 5


def test_without_the_packages_the_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("spans", "delivery"):
        monkeypatch.delitem(sys.modules, f"convlens.server.tracing.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert main(["--traces", "http://127.0.0.1:4317", "--metrics-listen", "off"]) == 1
    assert capsys.readouterr().err == (
        "convlens-server: traces needs the package opentelemetry.sdk.resources: "
        'pip install "convlens-server[otel]"\n'
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999"),
    ],
)
def test_a_wrong_variable_of_opentelemetry_is_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["--traces", "http://127.0.0.1:4317", "--metrics-listen", "off"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("convlens-server: traces: a variable OTEL_… cannot be used: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["collector:4317", "http://collector", "ftp://a:1", "http://a:1/v1", "http://a:b"]
)
def test_what_is_no_collector(text: str) -> None:
    with pytest.raises(SettingsError, match=r"traces: must be http://host:port"):
        load_settings(["--traces", text])


def test_collectors() -> None:
    for text in ("", "http://127.0.0.1:4317", "https://otel.example.org:443", "http://[::1]:4317"):
        assert load_settings(["--traces", text])[0].traces == text
