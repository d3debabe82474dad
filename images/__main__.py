"""`python -m images`: build the images, or prove that they come out the same twice.

Shell. Exit codes: 0 built, 1 two builds differ, 2 wrong usage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from images.build import build, source_epoch
from images.recipe import RECIPES


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(tuple(RECIPES)))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/images"), show_default=True
)
@click.option("--twice", is_flag=True, help="Build again from nothing, and compare the digests.")
def main(names: tuple[str, ...], output: Path, twice: bool) -> None:
    """Build images (all of them, if none is named) as OCI layouts. Needs root, mmdebstrap and `make bpf`.

    \b
    Examples:
      python -m images
      python -m images nodeagent --twice
      skopeo copy oci:build/images/nodeagent/layout docker://registry.example/tidegate/nodeagent:0.1.0
    """
    epoch = source_epoch()
    for name in names or tuple(RECIPES):
        made = build(RECIPES[name], output, epoch=epoch)
        click.echo(f"{name} {made.digest} {made.layout}")
        if twice:
            again = build(RECIPES[name], output / "again", epoch=epoch)
            if again.digest != made.digest:
                click.echo(f"{name}: the second build is {again.digest}", err=True)
                sys.exit(1)
            click.echo(f"{name}: the second build is the same")


if __name__ == "__main__":
    main()
