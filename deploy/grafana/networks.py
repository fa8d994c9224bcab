"""The dashboard of networks and methods: what is asked for, and how long it takes."""

from deploy.grafana.overview import HERE, RATE
from deploy.grafana.panels import Board, Panel, Row

OF = f'{HERE}, network=~"$network"'


def _rate(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{OF}{more}}}{RATE}))"


def _quantile(quantile: float, by: str, more: str) -> str:
    buckets = _rate("convlens_request_seconds_bucket", f"le, {by}", more)
    return f"histogram_quantile({quantile}, {buckets})"


NETWORKS = Row(
    "Networks",
    [
        Panel(
            "Calls by network",
            "Calls that end in a second. Versions share the calls that name none by their weights.",
            "reqps",
            [(_rate("convlens_requests_total", "network", ', network!=""'), "{{network}}")],
        ),
        Panel(
            "Calls that name no network that is served",
            "Refused before it was known which one they meant, or NETWORK_NOT_FOUND.",
            "reqps",
            [
                (
                    "sum by (reason) (rate(convlens_requests_total"
                    f'{{{HERE}, network="", code!="OK"}}{RATE}))',
                    "{{reason}}",
                )
            ],
        ),
        Panel(
            "Latency of inference by network",
            "Of Classify and ExtractFeatures.",
            "s",
            [
                (
                    _quantile(
                        q,
                        "network",
                        ', rpc=~"ClassificationService/Classify|FeatureService/ExtractFeatures"',
                    ),
                    f"{{{{network}}}} p{100 * q:g}",
                )
                for q in (0.5, 0.99)
            ],
        ),
        Panel(
            "Errors by network",
            "Calls and requests of streams that do not end well.",
            "reqps",
            [
                (
                    "sum by (network, reason) (rate(convlens_requests_total"
                    f'{{{OF}, reason!=""}}{RATE}) or rate(convlens_stream_requests_total'
                    f'{{{OF}, reason!=""}}{RATE}))',
                    "{{network}} {{reason}}",
                )
            ],
        ),
        Panel(
            "Jobs that wait by network",
            "In the queues of its workers.",
            "none",
            [
                (
                    "sum by (network, pool) (max by (network, pool, triton) "
                    f"(convlens_queue_length{{{OF}}}))",
                    "{{network}} {{pool}}",
                )
            ],
        ),
        Panel(
            "Memory of GPUs by network",
            "Of all workers; 0 on a CPU.",
            "bytes",
            [
                (
                    "sum by (network) (max by (network, pool, triton) "
                    f"(convlens_device_memory_bytes{{{OF}}}))",
                    "{{network}}",
                )
            ],
        ),
    ],
)

METHODS = Row(
    "Methods",
    [
        Panel(
            "Methods that are asked for",
            "Explanations, attacks and syntheses, each by itself where a call asks for several.",
            "ops",
            [
                (
                    f"sum by (method) (rate(convlens_methods_total{{{HERE}}}{RATE}))",
                    "{{method}}",
                )
            ],
        ),
        Panel(
            "Latency by method",
            "Half of the calls take less; `several` are calls that ask for more than one.",
            "s",
            [(_quantile(0.5, "method", ', method!=""'), "{{method}}")],
        ),
        Panel(
            "Slow calls by method",
            "99 % of the calls take less.",
            "s",
            [(_quantile(0.99, "method", ', method!=""'), "{{method}}")],
        ),
        Panel(
            "Errors by method",
            "Calls that do not end well.",
            "reqps",
            [
                (
                    _rate("convlens_requests_total", "method, reason", ', method!="", reason!=""'),
                    "{{method}} {{reason}}",
                )
            ],
        ),
    ],
)

BOARD = Board(
    "convlens-networks",
    "ConvLens networks and methods",
    "What is asked of which network, and how long it takes: docs/operations.md.",
    [NETWORKS, METHODS],
    (("namespace", "convlens_build"), ("network", "convlens_request_seconds_count")),
)
