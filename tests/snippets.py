"""Runs the snippets of the documentation's pages, as they stand there."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import RunningServer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Page:
    """A page of docs/, by its name without `.md`."""

    name: str

    @property
    def text(self) -> str:
        return (DOCS / f"{self.name}.md").read_text(encoding="utf-8")

    def blocks(self, language: str) -> str:
        """All snippets in a language, one after the other."""
        found = re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        assert found
        return "\n".join(found)

    def run_python(self, server: RunningServer, folder: Path) -> list[str]:
        """The lines that the Python snippets print; a warning is an error."""
        code = self.blocks("python")
        return run(server, folder, sys.executable, "-W", "error", "-c", code)

    def run_shell(self, server: RunningServer, folder: Path) -> list[str]:
        """The lines that the commands print; each must succeed."""
        return run(server, folder, "bash", "-e", "-c", self.blocks("bash"))

    def links(self) -> list[tuple[str, str]]:
        """The links within the repository: files, and places in them."""
        targets = re.findall(r"\]\((?!http)([^)]+)\)", self.text)
        parts = (target.partition("#") for target in targets)
        return [(file or f"{self.name}.md", place) for file, _, place in parts]


def run(server: RunningServer, folder: Path, *command: str) -> list[str]:
    """The lines that a command prints, in a folder that has the pictures of a clone."""
    (folder / "clients").symlink_to(ROOT / "clients")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        command,
        cwd=folder,
        env={"CONVLENS_SERVER": server.address, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def dead_links(page: Page) -> list[tuple[str, str]]:
    """The links of a page that lead nowhere."""
    links = page.links()
    assert links
    return [(file, place) for file, place in links if not _is_there(file, place)]


def _is_there(file: str, place: str) -> bool:
    path = DOCS / file
    if not place or not path.exists():
        return path.exists()
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return place in {re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in headings}
