"""What commands print to, and how they fail."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
stderr = Console(stderr=True, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Exits with an error."""
    stderr.print(message, highlight=False, markup=False)
    raise typer.Exit(1)
