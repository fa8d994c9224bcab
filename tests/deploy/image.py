"""Follows a Dockerfile in plain folders: each stage is a copy of a clean Debian, each RUN a chroot.

What differs from an image: Debian comes from debootstrap, not from Docker; USER holds for what is
run in the end, not for layers; and nothing is cached but uv's downloads. Needs root and Linux.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Where the machine's own certificates are in a chroot, since packages write those of Debian.
TRUSTED = "/run/certificates.crt"
# What Docker has where an image says nothing.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRUST = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
KNOWN = {
    *("FROM", "ARG", "SHELL", "RUN", "ENV", "WORKDIR", "COPY"),
    *("LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"),
}


@dataclass
class Stage:
    """A stage, as a folder."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    folder: str = "/"
    shell: Sequence[str] = ("/bin/sh", "-c")
    user: str = "0:0"
    entry: Sequence[str] = ()
    check: Sequence[str] = ()


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction and its text, without comments and the ends of lines."""
    with dockerfile.open("rb") as file:
        # It reads bytes, whatever its types say.
        opened: Any = file
        found = DockerfileParser(fileobj=opened).structure
    return [
        (each["instruction"], each["value"]) for each in found if each["instruction"] != "COMMENT"
    ]


def debian(folder: Path, suite: str = "bookworm") -> Path:
    """A clean Debian, as small as debootstrap makes it."""
    command = ["debootstrap", "--variant=minbase", suite, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return folder


class Build:
    """Builds the last stage of a Dockerfile below `folder`, with uv's downloads in `cache`."""

    def __init__(self, dockerfile: Path, clean: Path, folder: Path, cache: Path) -> None:
        self._clean, self._folder, self._cache = clean, folder, cache
        self._stages: dict[str, Stage] = {}
        for name, text in instructions(dockerfile):
            assert name in KNOWN, f"{name} is not followed here"
            getattr(self, f"_{name.lower()}", self._ignored)(text)

    @property
    def stage(self) -> Stage:
        return list(self._stages.values())[-1]

    def _ignored(self, text: str) -> None:
        """What changes no file."""

    def _from(self, text: str) -> None:
        assert text.startswith("${BASE}")
        name = text.partition(" AS ")[2] or str(len(self._stages))
        root = self._folder / name
        subprocess.run(["cp", "-a", "--reflink=auto", self._clean, root], check=True)
        self._stages[name] = Stage(root)

    def _shell(self, text: str) -> None:
        self.stage.shell = json.loads(text)

    def _env(self, text: str) -> None:
        pairs = (pair.partition("=") for pair in shlex.split(text))
        self.stage.environment.update({name: value for name, _, value in pairs})

    def _workdir(self, text: str) -> None:
        self.stage.folder = text
        (self.stage.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, text: str) -> None:
        self.stage.user = text

    def _entrypoint(self, text: str) -> None:
        self.stage.entry = json.loads(text)

    def _healthcheck(self, text: str) -> None:
        self.stage.check = json.loads(text.partition("CMD ")[2])

    def _run(self, text: str) -> None:
        mounts = ()
        while text.startswith("--mount="):
            option, _, text = text.partition(" ")
            assert option == "--mount=type=cache,target=/root/.cache/uv"
            mounts = ((self._cache, "/root/.cache/uv"),)
        stage = self.stage
        command = [*stage.shell, f"cd {stage.folder} && {text}"]
        done = subprocess.run(
            contained(stage, command, mounts=mounts),
            env={"PATH": PATH, **stage.environment, **dict.fromkeys(TRUST, TRUSTED)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        assert done.returncode == 0, f"RUN {text}\n{done.stdout[-4000:]}"

    def _copy(self, text: str) -> None:
        *flags, source, target = shlex.split(text)
        stage = self.stage
        place = stage.root / os.path.join(stage.folder, target).lstrip("/")
        mode = [flag for flag in flags if flag.startswith("--chmod=")]
        [origin] = [flag.partition("=")[2] for flag in flags if flag.startswith("--from=")] or [""]
        if origin:
            subprocess.run(["cp", "-a", self._stages[origin].root / source[1:], place], check=True)
        elif source == ".":
            copy_context(place)
        else:
            assert source in context(), f"{source} is not let in by .dockerignore"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, place)
            place.chmod(int(mode[0].partition("=")[2], 8) if mode else 0o644)


def context() -> list[str]:
    """What .dockerignore lets in: everything is out but these."""
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def copy_context(place: Path) -> None:
    """Copies what is let in, less what is shut out of it again."""
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    out = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    for name in context():
        source, target = ROOT / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=out, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def contained(
    stage: Stage,
    command: Sequence[str],
    *,
    mounts: Sequence[tuple[Path, str]] = (),
    sealed: bool = False,
) -> list[str]:
    """A command in the stage, whose mounts end with it.

    `sealed` is as it is deployed: the stage's user, a root that nobody writes to, a /tmp and a
    /dev/shm of its own.
    """
    root = shlex.quote(str(stage.root))
    steps = [
        "set -e",
        f"mount --bind {root} {root}",
        f"mkdir -p {root}/run && touch {root}{TRUSTED}",
        f"mount --bind {CERTIFICATES} {root}{TRUSTED}",
        f"touch {root}/etc/resolv.conf && mount --bind /etc/resolv.conf {root}/etc/resolv.conf",
        f"touch {root}/etc/hosts && mount --bind /etc/hosts {root}/etc/hosts",
        f"mount -t proc proc {root}/proc",
        f"mkdir -p {root}/dev/shm",
    ]
    for source, target in mounts:
        steps += [
            f"mkdir -p {root}{target}",
            f"mount --bind {shlex.quote(str(source))} {root}{target}",
        ]
    if sealed:
        steps += [
            f"mount -o remount,bind,ro {root}",
            f"mount -t tmpfs -o mode=1777,size=1g tmpfs {root}/tmp",
            f"mount -t tmpfs -o mode=1777,size=1g tmpfs {root}/dev/shm",
        ]
    user = stage.user if sealed else "0:0"
    steps.append(f'exec /usr/sbin/chroot --userspec={user} --groups="" {root} "$@"')
    own = ["/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*own, "/bin/sh", "-c", "\n".join(steps), "sh", *command]
