"""Spans on their way to the collector."""

import logging
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

# They would have a line for each attempt, and for each caller whose tracestate is none.
NOISY = ("opentelemetry.exporter", "opentelemetry.trace")
# It would have a line with the headers for the collector that it cannot read: one is a secret.
TALKATIVE = "opentelemetry.util.re"


class Delivery(SpanExporter):
    """Hands spans to an OTLP collector; says once that it cannot, and once that it can again.

    It is called in a thread of OpenTelemetry's, which no call waits for.
    """

    def __init__(self, collector: str) -> None:
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(TALKATIVE).addFilter(_silent_about_values)
        self._collector = collector
        # Like Triton, a collector is not behind the proxy of the environment. The exporter's own
        # annotation knows of one option, a text, alone.
        options: Any = (("grpc.enable_http_proxy", 0),)
        self._exporter = OTLPSpanExporter(endpoint=collector, channel_options=options)
        self._lost = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last spans could not be handed over."""
        return self._lost > 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hands them over, or drops them where the collector does not take them in time."""
        try:
            result = self._exporter.export(spans)
        except Exception:
            # OpenTelemetry would log it with its traceback, each time.
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("traces not delivered", collector=self._collector)
            self._lost += len(spans)
        elif self._lost:
            log.warning("traces delivered again", collector=self._collector, lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Ends the connection, and whatever waits for it."""
        self._exporter.shutdown()


def _silent_about_values(record: logging.LogRecord) -> bool:
    record.args = ("(not shown)",) if record.args else ()
    return True
