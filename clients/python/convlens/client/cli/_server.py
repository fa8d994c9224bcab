"""`convlens networks` and `convlens health`."""

import json
from dataclasses import asdict

import click

from convlens.client import Client, Health, NetworkSummary
from convlens.client.cli import _options as options


@click.command()
@options.server
@options.timeout
@options.as_json("one JSON document")
def networks(server: str, timeout: float, as_json: bool) -> None:
    """List the networks that a server has.

    \b
    Examples:
      convlens networks
      convlens networks --server gpu-1:50051 --json | jq -r '.networks[].name'
    """
    with Client(server, timeout=timeout, max_attempts=1) as client:
        served = client.networks()
    if as_json:
        click.echo(json.dumps({"server": server, "networks": [asdict(entry) for entry in served]}))
    else:
        _print_networks(served, server)


def _print_networks(served: list[NetworkSummary], server: str) -> None:
    if not served:
        click.echo(f"The server at {server} has no networks.")
        return
    names = [f"{entry.name}@{entry.version}" for entry in served]
    width = max(len("network"), *(len(name) for name in names))
    click.secho(f"{'network'.ljust(width)}  kind    classes", bold=True)
    for name, entry in zip(names, served, strict=True):
        default = "  default" if entry.is_default else ""
        click.echo(f"{name.ljust(width)}  {entry.kind:<6}  {entry.classes:>7}{default}")


@click.command()
@click.argument("service", default="")
@options.server
@options.timeout
@options.as_json("one JSON document")
@click.pass_context
def health(ctx: click.Context, service: str, server: str, timeout: float, as_json: bool) -> None:
    """Ask whether a server answers, or one SERVICE of it.

    The exit code is 0 where it does, else 1.

    \b
    Examples:
      convlens health
      convlens health convlens.v1.ClassificationService --server gpu-1:50051
    """
    with Client(server, timeout=timeout, max_attempts=1) as client:
        status = client.health(service)
    if as_json:
        click.echo(json.dumps({"server": server, "service": service, "status": status}))
    else:
        click.echo(f"{service or server}: {status.replace('_', ' ')}")
    ctx.exit(0 if status is Health.SERVING else 1)
