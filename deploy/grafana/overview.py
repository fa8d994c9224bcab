"""The dashboard that says how a ConvLens is, and where its time goes."""

from deploy.grafana.panels import Board, Panel, Row

HERE = 'namespace=~"$namespace"'
QUICK = 'rpc=~"ClassificationService/Classify|FeatureService/ExtractFeatures"'
REFUSED = 'reason=~"DEADLINE_TOO_SHORT|OVERLOADED|QUEUE_FULL|QUOTA_EXCEEDED|SERVER_STOPPING"'
RATE = "[$__rate_interval]"


def _failing(window: str) -> str:
    """The share of the answers of the inference pool that failed."""
    failed, answers = (
        f'sum(avg_over_time(pool:{name}:rate5m{{{HERE}, pool="inference"}}[{window}]))'
        for name in ("convlens_answers_failed", "convlens_answers")
    )
    return f"{failed} / {answers}"


def _quantile(quantile: float, selected: str, *labels: str) -> str:
    by = ", ".join(("le", *labels))
    buckets = f"rate(convlens_request_seconds_bucket{{{HERE}, {selected}}}{RATE})"
    return f"histogram_quantile({quantile}, sum by ({by}) ({buckets}))"


NUMBERS = Row(
    "Now",
    [
        Panel(
            "Calls",
            "Calls that end in a second, refused ones too.",
            "reqps",
            [(f"sum(rate(convlens_requests_total{{{HERE}}}{RATE}))", "calls")],
            *(4, True),
        ),
        Panel(
            "Failed answers",
            "Of the inference pool in the last hour, where the server is to blame. Yellow is above "
            "the objective, red is what wakes somebody.",
            "percentunit",
            [(_failing("1h"), "failed")],
            *(4, True, (0.001, 0.0144)),
        ),
        Panel(
            "Slow calls",
            "99 % of the calls of the inference pool take less. The objective is a second.",
            "s",
            [(_quantile(0.99, QUICK), "p99")],
            *(4, True, (0.5, 1)),
        ),
        Panel(
            "Longest wait",
            "How long the first job of the longest queue has waited.",
            "s",
            [(f"max(convlens_queue_age_seconds{{{HERE}}})", "wait")],
            *(4, True, (5, 10)),
        ),
        Panel(
            "Pools that can answer",
            "Of two: inference and analysis.",
            "none",
            [(f"sum(max by (pool) (convlens_pool_ready{{{HERE}}}))", "pools")],
            *(4, True),
        ),
        Panel(
            "Alerts",
            "Alerts that fire.",
            "none",
            [
                (
                    'count(ALERTS{alertname=~"ConvLens.+", alertstate="firing"}) or vector(0)',
                    "alerts",
                )
            ],
            *(4, True, (1, 3)),
        ),
    ],
)

CALLS = Row(
    "Calls",
    [
        Panel(
            "Calls by RPC",
            "Calls that end in a second. A stream is one call.",
            "reqps",
            [(f"sum by (rpc) (rate(convlens_requests_total{{{HERE}}}{RATE}))", "{{rpc}}")],
        ),
        Panel(
            "Requests within streams",
            "Requests of streams that are answered in a second.",
            "reqps",
            [(f"sum by (rpc) (rate(convlens_stream_requests_total{{{HERE}}}{RATE}))", "{{rpc}}")],
        ),
        Panel(
            "Latency of the inference pool",
            "Of Classify and ExtractFeatures, from the arrival of a call to its end, as the server "
            "sees it. Values are between the bounds of buckets.",
            "s",
            [(_quantile(q, QUICK), f"p{100 * q:g}") for q in (0.5, 0.9, 0.99, 0.999)],
        ),
        Panel(
            "Latency by RPC",
            "99 % of the calls take less.",
            "s",
            [(_quantile(0.99, 'rpc!=""', "rpc"), "{{rpc}}")],
        ),
        Panel(
            "Errors by reason",
            "Calls and requests of streams that do not end well, by the reason in docs/errors.md.",
            "reqps",
            [
                (
                    "sum by (reason) (rate(convlens_requests_total"
                    f'{{{HERE}, reason!=""}}{RATE}) or rate(convlens_stream_requests_total'
                    f'{{{HERE}, reason!=""}}{RATE}))',
                    "{{reason}}",
                )
            ],
        ),
        Panel(
            "Refusals",
            "Calls that are told to come back: no room, no time, no quota, or the server ends.",
            "reqps",
            [
                (
                    f"sum by (reason) (rate(convlens_requests_total{{{HERE}, {REFUSED}}}{RATE}))",
                    "{{reason}}",
                )
            ],
        ),
        Panel(
            "Burning the error budget",
            "How many times faster than the objective allows (99.9 % of the inference pool's "
            "answers). At 1 it lasts for 30 days, at 14.4 for two.",
            "none",
            [(f"({_failing(window)}) / 0.001", window) for window in ("5m", "1h", "6h", "3d")],
        ),
        Panel(
            "Calls under way",
            "Calls that are not answered yet.",
            "none",
            [(f"sum by (rpc) (convlens_active_calls{{{HERE}}})", "{{rpc}}")],
        ),
    ],
)

LOAD = Row(
    "Load",
    [
        Panel(
            "Jobs that wait",
            "In the queues of all workers of a pool.",
            "none",
            [(f"pool:convlens_queue_length:sum{{{HERE}}}", "{{namespace}} {{pool}}")],
        ),
        Panel(
            "Age of the queue",
            "How long the first job of the longest queue of a pool has waited.",
            "s",
            [(f"max by (pool) (convlens_queue_age_seconds{{{HERE}}})", "{{pool}}")],
        ),
        Panel(
            "Jobs that wait, for each Triton",
            "Autoscalers start another one above 8 in the inference pool, and above 4 in the "
            "analysis pool.",
            "none",
            [(f"pool:convlens_queue_length:per_triton{{{HERE}}}", "{{namespace}} {{pool}}")],
        ),
        Panel(
            "Waiting for each second of computing",
            "Autoscalers start another Triton above 1.",
            "none",
            [(f"pool:convlens_queue_compute:ratio_rate2m{{{HERE}}}", "{{namespace}} {{pool}}")],
        ),
        Panel(
            "Cost in flight",
            "Passes of jobs that are admitted and not answered. The settings inference_budget and "
            "analysis_budget bound it, for each network and server.",
            "none",
            [(f"sum by (pool) (convlens_inflight_cost{{{HERE}}})", "{{pool}}")],
        ),
        Panel(
            "Where the time of a job goes",
            "Mean time of an answered job in each stage.",
            "s",
            [
                (
                    f"sum by (pool, stage) (rate(convlens_stage_seconds_sum{{{HERE}}}{RATE})) / "
                    f"sum by (pool, stage) (rate(convlens_stage_seconds_count{{{HERE}}}{RATE}))",
                    "{{pool}} {{stage}}",
                )
            ],
        ),
    ],
)

SERVERS = Row(
    "Servers",
    [
        Panel(
            "Answers that are kept",
            "Answers looked for in a second: found, not found, or being computed for another call.",
            "ops",
            [
                (
                    f"sum by (outcome) (rate(convlens_cache_lookups_total{{{HERE}}}{RATE}))",
                    "{{outcome}}",
                )
            ],
        ),
        Panel(
            "Memory",
            "Resident memory of each server, and what of it is answers that are kept.",
            "bytes",
            [
                (f"convlens_process_memory_bytes{{{HERE}}}", "{{instance}}"),
                (f"convlens_cache_bytes{{{HERE}}}", "{{instance}} kept answers"),
            ],
        ),
        Panel(
            "Processes",
            "Of servers with several: those that run.",
            "none",
            [(f"convlens_processes{{{HERE}}}", "{{instance}}")],
            8,
        ),
        Panel(
            "Processes that were started again",
            "Of servers with several, within an hour: those that had ended by themselves.",
            "none",
            [(f"increase(convlens_process_restarts_total{{{HERE}}}[1h])", "{{instance}}")],
            8,
        ),
        Panel(
            "Certificates",
            "Until the first one in a file expires.",
            "s",
            [
                (
                    "min by (setting) (convlens_certificate_expiry_timestamp_seconds"
                    f"{{{HERE}}}) - time()",
                    "{{setting}}",
                )
            ],
            8,
        ),
    ],
)

OVERVIEW = Board(
    "convlens-overview",
    "ConvLens",
    "Calls, their errors and times, and how loaded the pools are: docs/operations.md.",
    [NUMBERS, CALLS, LOAD, SERVERS],
)
