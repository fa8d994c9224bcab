"""One run from its beginning to its result."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from convlens.loadtest.conducting.asking import networks_of, tried
from convlens.loadtest.conducting.conductor import Conductor, View
from convlens.loadtest.conducting.fleet import Fleet
from convlens.loadtest.conducting.making import Ran, result_of
from convlens.loadtest.conducting.server_metrics import Metrics
from convlens.loadtest.conducting.setup import Asked
from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import Orders
from convlens.loadtest.results.model import Result

# Seconds between two looks at the server's metrics, at least.
METRICS_EVERY = 0.5


def looked_at(orders: Orders, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """The networks of the servers, and warnings; raises where the load would be in vain.

    Every server is asked who it is, for every caller, and every call is sent once.
    """
    networks = list[str]()
    for settings in orders.servers:
        for caller in orders.callers:
            networks = networks_of(settings, caller) or networks
    warnings = list[str]()
    for call in orders.calls:
        say(f"trying {call.name} ({call.rpc})")
        # Of a caller whose calls it is among.
        caller = next(
            (
                each
                for each in orders.callers
                if each.weights is None or each.weights.get(call.name)
            ),
            orders.callers[0],
        )
        if trouble := tried(orders.servers[0], caller, call):
            warnings.append(trouble)
    return networks, warnings


def performed(
    asked: Asked,
    orders: Sequence[Orders],
    view: View,
    networks: Sequence[str],
    warnings: Sequence[str],
) -> Result:
    """Runs the scenario, and says what came of it."""
    scenario = asked.scenario
    started = datetime.now().astimezone()
    tally = Tally([call.deadline for call in orders[0].calls], scenario.longest)
    every = max(METRICS_EVERY, tally.interval / 2)
    with Metrics(asked.metrics, every) as metrics, Fleet(orders) as fleet:
        conductor = Conductor(scenario, fleet, tally, view, len(orders))
        ended_early = conductor.run()
        seconds = max(0.0, time.monotonic() - conductor.epoch)
        metrics.now()
    ran = Ran(asked, orders[0], tally, conductor, metrics, started, seconds, ended_early)
    return result_of(ran, networks, warnings)
