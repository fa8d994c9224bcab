"""Every Prometheus metric of the server, declared once, and the port that shows them."""

from convlens.server.metrics.metrics import Metrics
from convlens.server.metrics.port import MetricsPort
from convlens.server.metrics.process_metrics import ProcessMetrics
from convlens.server.metrics.triton import TritonMetrics

__all__ = ["Metrics", "MetricsPort", "ProcessMetrics", "TritonMetrics"]
