"""What the commands of the containers say to their flags, variables and files."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click

from convlens.contract.pools import Pool
from convlens.loadtest.cli.program import program as load_program
from convlens.loadtest.cli.run import run as load_command
from convlens.loadtest.scenario import BadScenario, read_scenario, text_of
from convlens.server.settings import ENV_PREFIX, Settings, SettingsError, load_settings
from convlens.workers.config import Config, ConfigError, load_config
from convlens.workers.main import program
from tests.deploy.kubectl import Doc
from tests.deploy.manifests import SERVE_TRITON, containers, environment, files, pod

# Read by the libraries below the workers.
KNOWN = {"OMP_NUM_THREADS", "TORCH_HOME"}


def server_settings(docs: list[Doc], server: Doc) -> Settings:
    """The settings of the server's pods, as it reads them itself; raises SettingsError."""
    [container] = pod(server)["containers"]
    given = dict[str, str]()
    for name, value in environment(container).items():
        key = name.removeprefix(ENV_PREFIX).lower()
        if key == name.lower() or key not in Settings.model_fields:
            raise SettingsError(f"{name} is no setting of the server")
        given[name] = value if isinstance(value, str) else "a secret"
    with TemporaryDirectory() as folder, patch.dict(os.environ, given):
        return load_settings(placed(docs, server, container, Path(folder)))[0]


def placed(docs: list[Doc], workload: Doc, container: Doc, folder: Path) -> list[str]:
    """The arguments of a container, with the files of its ConfigMaps in a folder."""
    args = list[str](container.get("args", []))
    for path, _, text in files(docs, workload, container):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        args = [arg.replace(path, str(file)) for arg in args]
    return args


def repository(docs: list[Doc], triton: Doc) -> tuple[Config, int, Pool]:
    """Networks, GPUs and pool of a Triton's pods; raises ClickException or ConfigError."""
    container = pod(triton)["containers"][0]
    command = program.commands["repository"]
    with TemporaryDirectory() as folder:
        args = placed(docs, triton, container, Path(folder))
        context = command.make_context("repository", ["--out", "models", *args])
        config, gpus, pool = (context.params[each] for each in ("config", "gpus", "pool"))
        if gpus is None or pool is None:
            raise click.UsageError("needs --gpus and --pool")
        return load_config(config), gpus, pool


def not_understood(docs: list[Doc], workload: Doc) -> Iterator[str]:
    """What a workload's command would refuse or not look at."""
    name = workload["metadata"]["name"]
    for container in containers(workload):
        if container["name"] == "server":
            try:
                server_settings(docs, workload)
            except (SettingsError, SystemExit) as error:
                yield f"{name}: {error}"
        elif container["name"] == "loadtest":
            yield from (f"{name}: {words}" for words in _load_not_understood(container))
        elif container["name"] == "triton":
            try:
                repository(docs, workload)
            except (click.ClickException, ConfigError) as error:
                yield f"{name}: {error}"
            for variable in environment(container):
                if f"{variable}:" not in SERVE_TRITON and variable not in KNOWN:
                    yield f"{name}: {variable} is read by nobody"


def _load_not_understood(container: Doc) -> Iterator[str]:
    """What the load generator would refuse: its flags, and a scenario that is not in its image."""
    try:
        # In the context of its program: the command keeps the names of its help from the first one.
        settings: Any = load_program.context_settings
        parent = click.Context(load_program, info_name="convlens-loadtest", **settings)
        context = load_command.make_context("run", list(container["args"]), parent)
        read_scenario(text_of(context.params["scenario"]))
    except (click.ClickException, BadScenario) as error:
        yield str(error)
