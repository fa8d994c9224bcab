"""`convlens study`: the group of all studies."""

from importlib import import_module

import click

from convlens.client.cli._program import Commands

# The studies and the first sentence of each; its module is imported when it is used.
STUDIES = {
    "accuracy": "Compare what networks tell with what the pictures show.",
    "evolution": "Show how units and filters changed over a training.",
    "health": "Look for dead units, noise in the filters, wrong gradients.",
    "human": "Label pictures yourself, and see who is right more often.",
    "invariance": "Show what moving, enlarging and turning pictures changes.",
    "layers": "Read the classes from each layer with linear classifiers.",
    "map": "Lay pictures out so that those whose codes are alike lie together.",
    "neighbours": "Find the pictures that are most alike to the network.",
    "removal": "Measure what a network loses without its layers.",
    "top-patches": "Show what excites the maps of a layer most.",
    "variations": "Show what codes vary with: position, pose, colour, class and the rest.",
}


class Studies(Commands):
    """Imports the command of a study when it is used: the libraries take seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all studies."""
        return sorted(STUDIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The study of that name, imported now."""
        if cmd_name not in STUDIES:
            return None
        name = cmd_name.replace("-", "_")
        return getattr(import_module(f"convlens.client.cli._studies.{name}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of studies without importing them."""
        with formatter.section("Studies"):
            formatter.write_dl(sorted(STUDIES.items()))


@click.group(cls=Studies)
def study() -> None:
    """Study what a served network has learned, over whole folders of pictures.

    Each study writes a folder: page.html, its pictures (PNG), its tables (CSV) and study.json; with
    'convlens report --study DIR' it becomes a part of a report. After Ctrl-C, or when the server
    was lost, the same command goes on where it was. A picture that cannot be read is reported and
    listed, the others go on, and the exit code is 1.

    \b
    Examples:
      convlens study accuracy labelled/ --out accuracy
      convlens study evolution photos/ --networks ep1,ep9,ep90 \\
          --layer layer3 --out evolution
      convlens study health photos/ --out health
      convlens study human photos/ --open --out me
      convlens study invariance photos/ --layers features.2,cnn-code \\
          --out invariance
      convlens study layers labelled/ --layers layer1,layer3,cnn-code \\
          --out layers
      convlens study map photos/ --out map
      convlens study neighbours photos/ --query cat.jpg --out alike
      convlens study removal photos/ --out removal
      convlens study top-patches photos/ --layer layer3 --out patches
      convlens study variations drawn/ --layers features.2,cnn-code \\
          --out variations

    They need some libraries more: pip install "convlens-client[studies]".
    """
