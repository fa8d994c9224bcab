"""Sides and tables for machines that have torch and little else."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most in brackets."""
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write(document: Mapping[str, object], json_file: Path | None) -> None:
    """Writes the figures where asked."""
    if json_file:
        json_file.write_text(json.dumps(document, indent=1) + "\n")
