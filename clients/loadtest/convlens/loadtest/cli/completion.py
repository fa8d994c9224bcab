"""`convlens-loadtest completion`."""

import click
from click.shell_completion import get_completion_class

from convlens.loadtest.cli.program import program


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this command.

    \b
    For this shell only, or for all when put into its startup file:
      bash, zsh:  eval "$(convlens-loadtest completion bash)"
      fish:       convlens-loadtest completion fish | source
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(program, {}, "convlens-loadtest", "_CONVLENS_LOADTEST_COMPLETE").source())
