"""`convlens-loadtest page`."""

from pathlib import Path

import click

from convlens.client._text import shown
from convlens.client.cli._files import check_folder, check_new, write_whole
from convlens.loadtest.cli.results import read_result


@click.command()
@click.argument("result", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The page.",
)
@click.option("--overwrite", is_flag=True, help="Write over a file that is there.")
def page(result: Path, output: Path, overwrite: bool) -> None:
    """Write the page of a result.

    \b
      convlens-loadtest smoke --output result.json
      convlens-loadtest page result.json -o page.html
    """
    from convlens.loadtest.page.page import page_of

    check_folder(output)
    check_new(output, overwrite=overwrite)
    found = read_result(result)
    try:
        text = page_of(found)
    except ValueError as error:
        raise click.ClickException(f"{shown(result)} is damaged: {error}.") from error
    write_whole(output, text)
