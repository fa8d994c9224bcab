"""Writes the dashboards, as compose.yaml and the monitoring component give them to Grafana.

uv run python -m deploy.grafana.write
"""

from pathlib import Path

from deploy.grafana import networks, overview, workers

BOARDS = (overview.OVERVIEW, workers.POOLS, networks.BOARD)
# Kustomize takes no files from outside of a component.
FOLDER = Path(__file__).parents[1] / "kubernetes/components/monitoring/dashboards"


def dashboards() -> dict[str, str]:
    """The text of each, by its file's name."""
    return {f"{board.uid}.json": board.json() for board in BOARDS}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
