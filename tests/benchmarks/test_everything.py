"""`all` runs what there is, and goes on where one fails."""

from pathlib import Path

from click.testing import CliRunner

from benchmarks import everything
from benchmarks.__main__ import program


def test_each_benchmark_writes_figures(tmp_path: Path) -> None:
    help_text = CliRunner().invoke(program, ["--help"]).output
    for name, command in everything.commands(tmp_path, list(program.commands)):
        assert f"  {name} " in help_text or name == everything.DEVICE
        assert command[-2:] == ["--json", str(tmp_path / f"{name}.json")]


def test_one_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    names = ["no-such", "truth", "nor-this"]
    assert everything.run(folder, names, skip=["truth"]) == ["no-such", "nor-this"]
    assert everything.run(folder, names, only=["nor-this"]) == ["nor-this"]
    assert list(folder.iterdir()) == []
