"""Scenarios: what load is made of, read from YAML and checked."""

from convlens.loadtest.scenario.model import (
    Call,
    Closed,
    Connections,
    Open,
    Phase,
    Pictures,
    Ramp,
    Scenario,
    Steps,
    Tenant,
)
from convlens.loadtest.scenario.reading import BadScenario, read_scenario, shipped, text_of

__all__ = [
    "BadScenario",
    "Call",
    "Closed",
    "Connections",
    "Open",
    "Phase",
    "Pictures",
    "Ramp",
    "Scenario",
    "Steps",
    "Tenant",
    "read_scenario",
    "shipped",
    "text_of",
]
