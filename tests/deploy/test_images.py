"""The Dockerfiles and what goes with them: linted, and under `slow` followed and run."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree, which
from typing import Any

import psutil
import pytest
import yaml

from convlens.server.settings import ENV_PREFIX, Settings, parse_address
from convlens.server.triton.bundle import find_bundle
from convlens.workers.config import load_config
from convlens.workers.main import program
from convlens.workers.triton.sizing import shared_memory_of
from tests.deploy.image import Build, Stage, contained, context, debian, instructions
from tests.deploy.manifests import ROOT, SERVE_TRITON

DOCKER = ROOT / "deploy/docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PICTURE = ROOT / "clients/python/convlens/client/pictures/star-1.png"
HADOLINT = [str(Path(sys.executable).with_name("hadolint")), "-c", str(DOCKER / ".hadolint.yaml")]
KEY = {"CONVLENS_TRITON_KEY": "key"}


def names(path: Path) -> str:
    return path.stem


def of(dockerfile: Path, name: str) -> list[str]:
    return [text for each, text in instructions(dockerfile) if each == name]


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([*HADOLINT, *map(str, DOCKERFILES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    spoiled = DOCKERFILES[0].read_text().replace("--no-install-recommends", "")
    done = subprocess.run([*HADOLINT, "-"], input=spoiled, capture_output=True, text=True)
    assert "DL3015" in done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names)
def test_an_image_is_pinned_labelled_watched_and_no_root(dockerfile: Path) -> None:
    [base] = {text.partition("=")[2] for text in of(dockerfile, "ARG") if text.startswith("BASE")}
    assert re.fullmatch(r"debian:\d+\.\d+-slim", base)
    assert all(text.startswith("${BASE}") for text in of(dockerfile, "FROM"))
    for text in of(dockerfile, "RUN"):
        for package in re.findall(r"pip install (?:--\S+ (?:/\S+ )?)*(\S+)", text):
            assert "==" in package
    title, version = "image.title", (ROOT / "server/pyproject.toml").read_text()
    labels = " ".join(of(dockerfile, "LABEL"))
    assert all(f"opencontainers.{each}" in labels for each in (title, "image.licenses"))
    [made] = [text for text in of(dockerfile, "ARG") if text.startswith("VERSION=")]
    assert f'version = "{made.partition("=")[2]}"' in version
    assert of(dockerfile, "USER") == ["65532:65532"]
    assert of(dockerfile, "ENTRYPOINT")


def test_what_images_copy_is_let_in() -> None:
    for dockerfile in DOCKERFILES:
        for text in of(dockerfile, "COPY"):
            *_, source, _ = text.split()
            assert "--from=" in text or source == "." or source in context()
    assert all((ROOT / name).exists() for name in context())
    members = re.findall(r"members = \[(.*)\]", (ROOT / "pyproject.toml").read_text())[0]
    for member in re.findall(r'"(.+?)"', members):
        assert any(member == name or member.startswith(f"{name}/") for name in context())


def test_the_servers_variables_and_ports_are_its_settings() -> None:
    dockerfile = DOCKER / "server.Dockerfile"
    pairs = dict(re.findall(rf"{ENV_PREFIX}(\w+)=(\S+)", " ".join(of(dockerfile, "ENV"))))
    settings = Settings.model_validate({name.lower(): value for name, value in pairs.items()})
    listens = (settings.listen, settings.health_listen, settings.metrics_listen)
    found = [parse_address(each).port for each in listens]
    assert of(dockerfile, "EXPOSE") == [" ".join(map(str, found))]
    [check] = of(dockerfile, "HEALTHCHECK")
    assert f"127.0.0.1:{found[1]}" in check


def test_triton_knows_the_flags_of_the_script() -> None:
    """Those of its own --help, since unknown ones end it before it says why."""
    bundle = find_bundle()
    done = subprocess.run([str(bundle.server), "--help"], capture_output=True, text=True)
    known = set(re.findall(r"--[a-z0-9-]+", done.stdout + done.stderr))
    used = set(re.findall(r"--[a-z0-9-]+", SERVE_TRITON.partition("exec tritonserver")[2]))
    assert len(used) > 10 and used <= known
    options = {option for each in program.commands["repository"].params for option in each.opts}
    assert "--out" in options and 'repository --out "$models" "$@"' in SERVE_TRITON


def compose(name: str = "compose.yaml") -> Any:
    return yaml.safe_load((DOCKER / name).read_text())


def test_the_compose_files_are_valid() -> None:
    program_name = str(Path(sys.executable).with_name("check-jsonschema"))
    schema = [program_name, "--builtin-schema", "vendor.compose-spec"]
    files = [str(DOCKER / name) for name in ("compose.yaml", "compose.gpu.yaml")]
    done = subprocess.run([*schema, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    config = str(ROOT / "deploy/prometheus/prometheus.yml")
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)


def test_what_compose_starts_fits_together() -> None:
    services = compose()["services"]
    images = {service["image"].partition(":") for service in services.values()}
    assert {tag for name, _, tag in images if name.startswith("convlens/")} == {"0.1.0"}
    assert all(tag and tag != "latest" for _, _, tag in images)
    server, triton = services["server"], services["triton"]
    for variable in server["environment"]:
        assert variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
    assert server["environment"]["CONVLENS_TRITON_URL"] == "triton:8001"
    for name, flags in (
        ("cpu", triton),
        ("gpu", compose("compose.gpu.yaml")["services"]["triton"]),
    ):
        context = program.commands["repository"].make_context(
            "repository", ["--out", "models", *flags["command"]]
        )
        assert context.params["gpus"] == (1 if name == "gpu" else 0)
    config = load_config(DOCKER / "networks.yaml")
    needed = shared_memory_of(config, 1, Settings(**{}).max_message_bytes)
    assert triton["shm_size"] == f"{needed // 2**20}m"
    targets = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scraped = [each["static_configs"][0]["targets"] for each in targets["scrape_configs"]]
    assert scraped == [["server:9464"], ["triton:8002"]]
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (DOCKER / volume.partition(":")[0]).exists()


@contextmanager
def started(stage: Stage, *args: str, **variables: str) -> Generator[None]:
    """The stage's entry point, sealed; it ends by SIGTERM, with code 0."""
    environment = {**stage.environment, **KEY, **variables}
    command = contained(stage, [*stage.entry, *args], sealed=True)
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield
            # unshare does not hand on what it is sent.
            for child in psutil.Process(process.pid).children():
                child.terminate()
            assert process.wait(40) == 0
        finally:
            process.kill()


def healthy(stage: Stage, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    command = contained(stage, stage.check, sealed=True)
    while subprocess.run(command, env=stage.environment).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def serve(folder: Path, networks: Path) -> None:
    """Called in a network of its own, in which ports are free: both images as they are deployed."""
    stages = {
        name: Stage(Path(each.pop("root")), **each)
        for name, each in json.loads((folder / "stages.json").read_text()).items()
    }
    server, worker = stages["server"], stages["worker"]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with started(worker, "--gpus=0", OMP_NUM_THREADS="1"):
        healthy(worker, 120)
        with started(server, CONVLENS_TRITON_URL="127.0.0.1:8001"):
            healthy(server, 60)
            convlens = str(Path(sys.executable).with_name("convlens"))
            command = [convlens, "classify", str(networks), "--json"]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            print(answer.stdout)


def run_in(stage: Stage, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        contained(stage, command, sealed=True),
        env=stage.environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """One that is not kept: two images with torch are 20 GB."""
    yield tmp_path
    rmtree(tmp_path)


@pytest.mark.slow
def test_the_install_steps_give_images_that_serve(folder: Path) -> None:
    """In clean folders of Debian, step by step as the Dockerfiles say; then both are run.

    Each as its user, with a root that nobody can write to.
    """
    assert os.geteuid() == 0 and which("debootstrap"), "needs root, and debootstrap of Debian"
    clean = debian(folder / "debian")
    cache = Path.home() / ".cache/uv"
    cache.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Stage] = {}
    for name in ("server", "worker"):
        (folder / name).mkdir()
        stages[name] = Build(DOCKER / f"{name}.Dockerfile", clean, folder / name, cache).stage
    server, worker = stages["server"], stages["worker"]
    assert "No module named 'torch'" in run_in(server, ["python", "-c", "import torch"]).stderr
    assert "Read-only" in run_in(server, ["touch", "/opt/x"]).stderr
    assert run_in(worker, ["id", "-u"]).stdout == "65532\n"
    text = {name: {**vars(stage), "root": str(stage.root)} for name, stage in stages.items()}
    (folder / "stages.json").write_text(json.dumps(text))
    script = "import sys; from pathlib import Path; from tests.deploy.test_images import serve; "
    script += "serve(Path(sys.argv[1]), Path(sys.argv[2]))"
    command = ["unshare", "--net", sys.executable, "-c", script, str(folder), str(PICTURE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    assert '"star"' in done.stdout
