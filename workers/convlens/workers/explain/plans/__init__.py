"""The methods of a request, made ready for a network: one planner for each method message."""

from convlens.workers.explain.plans.plan import Plan, Wanted
from convlens.workers.explain.plans.registry import PLANNERS, plan

__all__ = ["PLANNERS", "Plan", "Wanted", "plan"]
