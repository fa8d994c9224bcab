"""`convlens networks` and `convlens health`."""

import json
from dataclasses import asdict

import click

from convlens.client import Health, NetworkSummary
from convlens.client.cli import _options as options
from convlens.client.cli import _pretrained as pretrained
from convlens.client.cli._connection import connected


@click.command()
@click.argument("name", default="")
@click.option(
    "--available", is_flag=True, help="List the pretrained weights that it could serve instead."
)
@click.option(
    "--sort",
    type=click.Choice([pretrained.BY_NAME, *pretrained.ORDERS]),
    default=pretrained.BY_NAME,
    show_default=True,
    help="Order of --available: the most accurate or the cheapest first.",
)
@options.server
@options.timeout
@options.as_json("one JSON document")
def networks(
    name: str, available: bool, sort: str, server: str, timeout: float, as_json: bool
) -> None:
    """List the networks that a server has.

    With --available the pretrained weights that its torchvision knows, with their accuracy on
    ImageNet-1K, parameters, multiply-adds and recipe; NAME leaves those whose network contains it.

    \b
    Examples:
      convlens networks
      convlens networks --server gpu-1:50051 --json | jq -r '.networks[].name'
      convlens networks --available resnet --sort top1
    """
    if available:
        _list_available(name, sort, server, timeout, as_json)
        return
    if name or sort != pretrained.BY_NAME:
        raise click.UsageError("NAME and --sort are for --available.")
    with connected(server, timeout=timeout, max_attempts=1) as client:
        served = client.networks()
    if as_json:
        click.echo(json.dumps({"server": server, "networks": [asdict(entry) for entry in served]}))
    else:
        _print_networks(served, server)


def _list_available(name: str, sort: str, server: str, timeout: float, as_json: bool) -> None:
    with connected(server, timeout=timeout, max_attempts=1) as client:
        weights = pretrained.in_order(client.pretrained(name), sort)
    if as_json:
        click.echo(pretrained.as_document(weights, server))
    else:
        pretrained.print_weights(weights, name, server)


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
    with connected(server, timeout=timeout, max_attempts=1) as client:
        status = client.health(service)
    if as_json:
        click.echo(json.dumps({"server": server, "service": service, "status": status}))
    else:
        click.echo(f"{service or server}: {status.replace('_', ' ')}")
    ctx.exit(0 if status is Health.SERVING else 1)
