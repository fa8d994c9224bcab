"""The dashboard of pools and workers: how well they are used, and how they are."""

from deploy.grafana.overview import HERE, RATE
from deploy.grafana.panels import Board, Panel, Row


def _rate(name: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{{HERE}}}{RATE}))"


def _stage(pool: str) -> str:
    buckets = f'convlens_stage_seconds_bucket{{{HERE}, pool="{pool}"}}'
    return f"histogram_quantile(0.99, sum by (le, stage) (rate({buckets}{RATE})))"


BATCHES = Row(
    "Batches",
    [
        Panel(
            "Images in a forward pass",
            "Of the inference pool, in the largest pass that a job took part in.",
            "none",
            [
                (
                    f"{_rate('convlens_batch_images_sum')} / "
                    f"{_rate('convlens_batch_images_count')}",
                    "mean",
                ),
                (f"histogram_quantile(0.9, {_rate('convlens_batch_images_bucket', 'le')})", "p90"),
            ],
        ),
        Panel(
            "Rows of micro-batches",
            "Of the analysis pool: rows that methods asked for, and rows that filled them up.",
            "ops",
            [
                (_rate("convlens_analysis_rows_total"), "asked for"),
                (_rate("convlens_analysis_padded_rows_total"), "padded"),
            ],
        ),
        Panel(
            "Passes in a micro-batch",
            "Of the analysis pool. Above 1, methods and callers share micro-batches.",
            "none",
            [
                (
                    f"{_rate('convlens_analysis_passes_total')} / "
                    f"{_rate('convlens_analysis_micro_batches_total')}",
                    "passes",
                )
            ],
            8,
        ),
        Panel(
            "Stages of inference jobs",
            "99 % of the answered jobs take less.",
            "s",
            [(_stage("inference"), "{{stage}}")],
            8,
        ),
        Panel(
            "Stages of analysis jobs",
            "99 % of the answered jobs take less.",
            "s",
            [(_stage("analysis"), "{{stage}}")],
            8,
        ),
    ],
)

WORKERS = Row(
    "Workers",
    [
        Panel(
            "Pools that can answer",
            "1 while some server has a healthy worker of the pool in reach.",
            "none",
            [
                (
                    f"max by (namespace, pool) (convlens_pool_ready{{{HERE}}})",
                    "{{namespace}} {{pool}}",
                )
            ],
            8,
        ),
        Panel(
            "Workers that were started again",
            "Within an hour, after they had died or could not compute any more.",
            "none",
            [
                (
                    "sum by (model, outcome) "
                    f"(increase(convlens_triton_healings_total{{{HERE}}}[1h]))",
                    "{{model}} {{outcome}}",
                )
            ],
            8,
        ),
        Panel(
            "Calls that met a dead worker",
            "They are tried once more.",
            "ops",
            [(_rate("convlens_triton_dead_worker_reports_total", "model"), "{{model}}")],
            8,
        ),
        Panel(
            "Canaries",
            "Pools that answered nobody for a while are asked whether they can compute.",
            "ops",
            [(_rate("convlens_triton_canaries_total", "model, outcome"), "{{model}} {{outcome}}")],
            8,
        ),
        Panel(
            "Jobs tried once more",
            "At another Triton, or at the same one after its healing.",
            "ops",
            [(_rate("convlens_triton_retries_total", "place"), "{{place}}")],
            8,
        ),
        Panel(
            "Clocks",
            "How far a worker's clock moved against the server's within an hour.",
            "s",
            [
                (
                    f"max by (model, triton) (convlens_triton_clock_offset_seconds{{{HERE}}} - "
                    f"min_over_time(convlens_triton_clock_offset_seconds{{{HERE}}}[1h]))",
                    "{{model}} {{triton}}",
                )
            ],
            8,
        ),
        Panel(
            "Memory of GPUs",
            "That a worker holds; 0 on a CPU.",
            "bytes",
            [
                (
                    f"max by (network, pool, triton) (convlens_device_memory_bytes{{{HERE}}})",
                    "{{network}} {{pool}} {{triton}}",
                )
            ],
        ),
        Panel(
            "Memory of workers",
            "Resident memory of a worker's process.",
            "bytes",
            [
                (
                    f"max by (model, triton) (convlens_triton_worker_memory_bytes{{{HERE}}})",
                    "{{model}} {{triton}}",
                )
            ],
        ),
    ],
)

TRITONS = Row(
    "Tritons",
    [
        Panel(
            "Jobs at each Triton",
            "Sent and not answered yet.",
            "none",
            [(f"sum by (triton) (convlens_triton_outstanding_jobs{{{HERE}}})", "{{triton}}")],
        ),
        Panel(
            "Tritons in reach",
            "1 while every server gets answers from it.",
            "none",
            [(f"min by (triton) (convlens_triton_reachable{{{HERE}}})", "{{triton}}")],
        ),
        Panel(
            "Jobs that wait at each Triton",
            "In the queues of its workers.",
            "none",
            [
                (
                    f"max by (network, pool, triton) (convlens_queue_length{{{HERE}}})",
                    "{{network}} {{pool}} {{triton}}",
                )
            ],
        ),
        Panel(
            "Requests in Triton",
            "Of each model: those that end in a second, as Triton counts them.",
            "reqps",
            [
                (_rate("nv_inference_request_success", "model"), "{{model}}"),
                (_rate("nv_inference_request_failure", "model"), "{{model}} failed"),
            ],
        ),
        Panel(
            "Use of GPUs and CPUs",
            "Share of the time in which they work.",
            "percentunit",
            [
                (
                    f"nv_gpu_utilization{{{HERE}}} or nv_cpu_utilization{{{HERE}}}",
                    "{{instance}} {{gpu_uuid}}",
                )
            ],
        ),
        Panel(
            "Memory of machines in use",
            "Of GPUs, where Triton has some, and of the machines.",
            "percentunit",
            [
                (
                    f"nv_gpu_memory_used_bytes{{{HERE}}} / nv_gpu_memory_total_bytes{{{HERE}}} or "
                    f"nv_cpu_memory_used_bytes{{{HERE}}} / nv_cpu_memory_total_bytes{{{HERE}}}",
                    "{{instance}} {{gpu_uuid}}",
                )
            ],
        ),
    ],
)

POOLS = Board(
    "convlens-workers",
    "ConvLens pools and workers",
    "How well batches are filled, how workers are, and what Tritons do: docs/operations.md.",
    [BATCHES, WORKERS, TRITONS],
)
