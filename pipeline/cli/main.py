"""The command line `rgc`."""

import logging
import sys

import typer

from pipeline.cli.commands.audit import audit
from pipeline.cli.commands.compress import compress
from pipeline.cli.commands.decode import decode
from pipeline.cli.commands.decompress import decompress
from pipeline.cli.commands.encode import encode
from pipeline.cli.commands.estimate import estimate
from pipeline.cli.commands.evaluate import evaluate
from pipeline.cli.commands.info import info
from pipeline.cli.commands.train import train

app = typer.Typer(
    help="Recompress photo archives with the Residual GRU codec.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for runner_command in (compress, decompress):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(runner_command)
for command in (encode, decode, info, audit, estimate, evaluate, train):
    app.command()(command)


def main() -> None:
    # Beam's own warnings are about Beam; ours say what becomes of photos.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    for package in ("model", "transforms", "pipeline"):
        logging.getLogger(package).setLevel(logging.WARNING)
    sys.exit(app())


if __name__ == "__main__":
    main()
