"""docs/studies.md and the pages below it: what they say is so, and their commands are commands."""

import re
import shlex
from pathlib import Path

import click
import pytest

from convlens.client.cli._program import program
from convlens.client.cli._study import STUDIES
from tests.conftest import RunningServer, triton_is_slow
from tests.snippets import DOCS, ROOT, Page

PAGE = Page("studies")
PAGES = [PAGE, *(Page(f"studies/{name}") for name in sorted(STUDIES))]


@triton_is_slow
def test_the_snippets_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_shell(server, tmp_path)
    assert any(line.startswith("patches/page.html: 60 pictures") for line in lines)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What excites the maps of a layer most" in report and report.endswith("</html>")
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "shapes").symlink_to(tmp_path / "shapes")
    PAGE.run_python(server, tmp_path / "python")


def test_every_study_has_a_page_and_every_page_a_study() -> None:
    pages = {file.stem for file in (DOCS / "studies").glob("*.md")}
    assert pages == STUDIES.keys()
    for name in STUDIES:
        assert f"[`{name}`](studies/{name}.md)" in PAGE.text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_there(page: Page) -> None:
    below = page.name.rpartition("/")[0]
    links = [
        (DOCS / below / file).resolve() for file, _ in page.links() if file != f"{page.name}.md"
    ]
    assert all(link.exists() for link in links), links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_their_commands_are_commands(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = page.blocks("bash").replace("\\\n", " ")
    commands = re.findall(r"^convlens (.+?)(?:  +#.*)?$", blocks, re.MULTILINE)
    assert commands
    # Files that a command wants to be there are those of the commands before it.
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))
    for line in commands:
        context = click.Context(program, info_name="convlens")
        words = shlex.split(line)
        command: click.Command | None = program
        while isinstance(command, click.Group) and words:
            name, *words = words
            command = command.get_command(context, name)
            assert command is not None, line
            context = click.Context(command, context, name)
        assert command is not None
        command.make_context(command.name, words, parent=context.parent)


def test_their_pictures_are_small() -> None:
    for page in PAGES:
        for name in re.findall(r"\.\./pictures/([\w-]+\.png)", page.text):
            assert 5_000 < (ROOT / "docs/pictures" / name).stat().st_size < 400_000, name
