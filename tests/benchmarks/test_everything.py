"""`all` runs what there is, and goes on where one fails."""

from pathlib import Path

from click.testing import CliRunner

from benchmarks import everything
from benchmarks.__main__ import program


def test_each_benchmark_writes_figures(tmp_path: Path) -> None:
    names = [name for name in program.commands if name != "all"]
    for name, (module, *words) in everything.commands(tmp_path, names).items():
        assert words[-2:] == ["--json", str(tmp_path / f"{name}.json")]
        if module == "benchmarks":
            help_text = CliRunner().invoke(program, [*words[:1], "--help"]).output
            assert "--json" in help_text, name


def test_one_that_fails_does_not_end_the_others() -> None:
    modules = {"first": ["no_such"], "well": ["this"], "last": ["nor_this"]}
    assert everything.run(modules) == ["first", "last"]
    assert everything.run(modules, only=["well", "last"]) == ["last"]
    assert everything.run(modules, skip=["last"]) == ["first"]
