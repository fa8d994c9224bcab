"""`convlens completion`."""

import click
from click.shell_completion import get_completion_class

from convlens.client.cli._program import program


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this command.

    \b
    Put it where your shell finds it:
      bash: convlens completion bash > ~/.local/share/bash-completion/completions/convlens
      zsh:  convlens completion zsh > ~/.zfunc/_convlens
      fish: convlens completion fish > ~/.config/fish/completions/convlens.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(program, {}, "convlens", "_CONVLENS_COMPLETE").source())
