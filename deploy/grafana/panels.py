"""What the dashboards are put together from: panels, one after the other, and their queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

# Whichever Prometheus is chosen at the top of a dashboard.
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
Drawing: TypeAlias = timeseries.Panel | stat.Panel


@dataclass(frozen=True)
class Panel:
    """A drawing of `queries`, each with how its lines are called.

    `unit` is Grafana's word. Numbers stand at the top; they turn yellow and red from `limits` on.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    width: int = 12
    is_number: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """A dashboard; `variables` are labels to choose by, each with the metric that has it."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[tuple[str, str]] = (("namespace", "convlens_build"),)

    def json(self) -> str:
        """As Grafana reads it."""
        board = _frame(self)
        number = 0
        for row in self.rows:
            number += 1
            board = board.with_row(dashboard.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                board = board.with_panel(_drawing(panel).id(number))
        return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _frame(board: Board) -> dashboard.Dashboard:
    frame = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["convlens"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for label, metric in board.variables:
        frame = frame.with_variable(
            dashboard.QueryVariable(label)
            .label(label.capitalize())
            .datasource(SOURCE)
            .query(f"label_values({metric}, {label})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            # An empty label too, as it is without Kubernetes.
            .all_value(".*")
        )
    return frame


def _drawing(panel: Panel) -> Drawing:
    drawing = _number() if panel.is_number else _lines()
    drawing = drawing.title(panel.title).description(panel.description).unit(panel.unit)
    drawing = drawing.datasource(SOURCE).span(panel.width).height(4 if panel.is_number else 8)
    steps = [Threshold(value=None, color="green")]
    for color, limit in zip(("yellow", "red"), panel.limits or (), strict=False):
        steps.append(Threshold(value=limit, color=color))
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    drawing = drawing.thresholds(thresholds)
    for letter, (query, legend) in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query).legend_format(legend)
        drawing = drawing.with_target(target.instant() if panel.is_number else target.range())
    return drawing


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    return (
        timeseries.Panel()
        .legend(legend.display_mode(LegendDisplayMode.LIST))
        .tooltip(tooltip)
        .fill_opacity(10)
        .axis_soft_min(0)
    )


def _number() -> stat.Panel:
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(reduced).graph_mode(BigValueGraphMode.NONE)
