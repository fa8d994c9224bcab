"""How the outcome of `convlens-workers check` looks: as a table, or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

import click
from google.protobuf.json_format import MessageToDict

from convlens.workers.check import Report

WIDTHS = (20, 8, 9, 10)
TEXT_WIDTH = 100
FACTS = (
    "parameters",
    "input",
    "precision",
    "device_kind",
    "rows",
    "channels_last",
    "compiled",
    "parity",
)


def print_report(report: Report) -> None:
    """One network's table, to stdout."""
    click.secho(f"{report.network}  ({report.builder})", bold=True)
    click.echo(_row("step", "result", "time", "memory", "what came out"))
    for step in report.steps:
        word = click.style("works".ljust(WIDTHS[1]), fg="green")
        if not step.ok:
            word = click.style("FAILED".ljust(WIDTHS[1]), fg="red", bold=True)
        memory = f"{step.memory_bytes / 2**20:.1f} MiB"
        # A reason may be long, and is there to be read: it stands below, unbroken.
        shown = step.detail if step.ok else ""
        click.echo(_row(step.name, word, f"{step.seconds:.3f} s", memory, shown))
        if not step.ok:
            for line in wrap(step.detail, TEXT_WIDTH, break_long_words=False):
                click.echo(f"    {line}")
    click.echo()


def as_document(reports: Sequence[Report]) -> str:
    """Everything, as JSON."""
    networks = [
        {
            "network": report.network,
            "builder": report.builder,
            "ok": report.ok,
            "facts": _facts(report),
            "steps": [asdict(step) for step in report.steps],
        }
        for report in reports
    ]
    document = {"ok": all(report.ok for report in reports), "networks": networks}
    return json.dumps(document, indent=2)


def _facts(report: Report) -> dict[str, Any] | None:
    if report.facts is None:
        return None
    facts = MessageToDict(
        report.facts, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # JSON's own numbers where protobuf writes 64 bits as text.
    counts = {"parameters": report.facts.parameters, "classes": len(report.facts.labels)}
    return {key: facts.get(key) for key in FACTS} | counts


def _row(name: str, result: str, time: str, memory: str, detail: str) -> str:
    first, second, third, fourth = WIDTHS
    cells = (name.ljust(first), result.ljust(second), time.rjust(third), memory.rjust(fourth))
    return f"  {' '.join(cells)}  {detail}".rstrip()
