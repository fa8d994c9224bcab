"""Makes the orders of load processes from a scenario and the command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convlens.client._security import Security
from convlens.client._transport import DEFAULT_TIMEOUT, MAX_MESSAGE_BYTES, Settings
from convlens.loadtest.generator.orders import Caller, Orders
from convlens.loadtest.scenario import BadScenario, Scenario, Tenant
from convlens.loadtest.scenario.reading import Source
from convlens.loadtest.traffic.requests import prepared

# Of a scenario without tenants.
ONLY = "all"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of a run."""

    source: Source
    scenario: Scenario
    servers: Sequence[str]
    processes: int = 1
    #: Addresses of metrics.
    metrics: Sequence[str] = ()
    #: The options of the connection: tls, ca, certificate, key, token, priority, …
    connection: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: What was typed.
    command: str = ""


def orders_of(asked: Asked) -> list[Orders]:
    """The orders of each process; BadScenario or ConvLensError where something is wrong."""
    scenario, folder = asked.scenario, asked.source.folder
    servers = [_settings(asked, server) for server in asked.servers]
    calls = prepared(scenario, folder)
    callers = _callers(asked, servers)
    return [
        Orders(
            number=number,
            processes=asked.processes,
            servers=servers,
            calls=calls,
            callers=callers,
            channels=scenario.connections.channels,
            renew_after=scenario.connections.renew_after,
            attempts=scenario.retries.attempts,
            max_in_flight=scenario.max_in_flight,
            seed=scenario.seed,
        )
        for number in range(asked.processes)
    ]


def _settings(asked: Asked, server: str) -> Settings:
    def secure(address: str) -> Security:
        return _security(asked, address, None)

    priority = asked.scenario.priority
    return Settings.of(server, DEFAULT_TIMEOUT, MAX_MESSAGE_BYTES, 1, priority, secure)


def _security(asked: Asked, address: str, token: str | Path | None) -> Security:
    given = asked.connection
    return Security.of(
        address,
        tls=given.get("tls"),
        ca=given.get("ca"),
        certificate=given.get("certificate"),
        key=given.get("key"),
        token=given.get("token") if token is None else token,
        allow_plaintext_token=given.get("allow_plaintext_token", False),
        own_channel=False,
    )


def _callers(asked: Asked, servers: Sequence[Settings]) -> list[Caller]:
    scenario = asked.scenario
    usual = asked.connection.get("priority") or scenario.priority
    if not scenario.tenants:
        return [Caller(ONLY, servers[0].security, usual, 1.0, None)]
    return [
        Caller(
            name,
            _security(asked, servers[0].address, _token(asked, name, tenant)),
            tenant.priority or usual,
            tenant.weight,
            tenant.calls,
        )
        for name, tenant in scenario.tenants.items()
    ]


def _token(asked: Asked, name: str, tenant: Tenant) -> str | Path | None:
    """A tenant's own token; None for that of the command line."""
    if tenant.token_file:
        return asked.source.folder / Path(tenant.token_file).expanduser()
    if tenant.token_env:
        token = os.environ.get(tenant.token_env)
        if not token:
            raise BadScenario(
                f"tenants.{name}.token_env is {tenant.token_env}, and no such variable is set."
            )
        return token
    return None
