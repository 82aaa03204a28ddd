"""What a command came to: on the terminal, and as the exit status."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NoReturn

import typer
from rich.console import Console

from model.files import view_of
from model.format.container import RgcFile
from pipeline.audit.compare import compare, print_comparison
from pipeline.audit.report import AuditReport, audit, print_failed, print_totals
from pipeline.audit.verify import Verification, print_safe_to_delete, print_verification
from pipeline.runners.interruption import EXIT_STATUS
from pipeline.runners.progress import RunCounts
from pipeline.runners.supervise import Outcome, last_line
from transforms.manifest.reading import manifest_files, manifest_folder
from transforms.progress import INTERRUPTED
from transforms.storage.files import join, write_bytes

stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
stderr = Console(stderr=True, soft_wrap=True)


def content_of(file: RgcFile) -> dict[str, Any]:
    """What `rgc info` says of a file, as JSON has it."""
    lengths = file.prefix_bytes()
    seen = view_of(file)
    metadata = {name: len(getattr(seen, name)) for name in ("exif", "icc_profile", "xmp")}
    return {
        "width": file.width,
        "height": file.height,
        "colour": "grey" if file.grey else "RGB",
        "model": file.model_id,
        "complete": len(file.codes) == len(file.ms_ssim),
        **{f"{name}_bytes": size for name, size in metadata.items()},
        "alpha_bytes": len(file.alpha),
        "metadata_blocks": len(file.metadata.blocks) if file.metadata is not None else 0,
        "source": asdict(file.source) if file.source else {},
        "iterations": [
            {"bytes": length, "ms_ssim": quality}
            for length, quality in zip(lengths, file.ms_ssim, strict=False)
        ],
    }


def print_findings(
    report: AuditReport, verification: Verification | None, list_to: str | None, as_json: bool
) -> None:
    """What verifying found, before the list is written: that may fail, and the findings took hours."""
    if verification is not None and list_to is not None:
        verification.drop_changed(stderr)
    if as_json:
        print(json.dumps({**asdict(report), "verification": verification and verification.summary()}))
    elif verification is not None:
        print_verification(verification, stdout)
    if verification is not None and list_to is not None:
        write_list(list_to, verification.safe_to_delete)
        if not as_json:
            print_safe_to_delete(verification, stdout)


def write_list(path: str, uris: list[str]) -> None:
    """Writes the originals that may go; that it cannot is a wrong call."""
    try:
        write_bytes(path, "".join(f"{uri}\n" for uri in uris).encode())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="--safe-to-delete") from error


def compare_and_exit(manifests: list[str], run: str, where: str | None, as_json: bool) -> NoReturn:
    """Prints what changed between a run and those in `manifests`, and exits."""
    comparison = compare(manifests, run, where)
    if as_json:
        print(json.dumps(asdict(comparison)))
    else:
        print_comparison(comparison, stdout)
    fail_if_skipped(comparison.skipped)
    raise typer.Exit


def fail_if_skipped(skipped: list[dict[str, str]]) -> None:
    """Names the manifest files that could not be read, and exits if there are any."""
    for file in skipped:
        stderr.print(f"skipped: {file['uri']}: {file['reason']}", highlight=False, markup=False)
    if skipped:
        raise typer.Exit(1)


@contextmanager
def waiting_for_a_run() -> Iterator[None]:
    """Says what becomes of a run that ends early, and of a remote job that Ctrl-C stops waiting for."""
    try:
        yield
    except KeyboardInterrupt:  # only on another runner: see `run_interruptibly`
        stderr.print(
            "not waiting any longer; a job that was submitted goes on, until it is cancelled where it runs"
        )
        stderr.print("on Dataflow: gcloud dataflow jobs cancel JOB --region REGION")
        raise typer.Exit(EXIT_STATUS) from None
    except Exception as error:  # whatever a runner raises
        fail(f"the run ended early: {last_line(error)}; what is done is kept, and the same call goes on")


def report_run(outcome: Outcome, source: str, output: str) -> NoReturn:
    """Prints what a compress run came to, and exits."""
    folder = join(manifest_folder(output), f"run={outcome.run.run_id}")
    if not manifest_files(folder):
        exit_if_stopped(outcome.stopped, outcome.counts)
        raise typer.BadParameter(f"{source}: no files there but rgc's own", param_hint="INPUT")
    report = audit(folder)
    print_totals(report, stdout)
    if resumed := outcome.counts.resumed:
        new = report.totals["photos"] - resumed
        stdout.print(f"{resumed} of them were finished in an earlier run, {new} in this one")
    stdout.print(f"manifest: {folder}", highlight=False)
    print_failed(report, stderr)
    exit_if_stopped(outcome.stopped, outcome.counts)
    raise typer.Exit(1 if report.failed else 0)


def exit_if_stopped(why: str, counts: RunCounts) -> None:
    """Says how far a run came that was asked to stop, and exits; not if `why` is empty."""
    if why:
        done = f"{counts.finished} of {counts.found} files are done"
        stdout.print(f"stopped: {why}; {done}, and the same call goes on", highlight=False)
        raise typer.Exit(EXIT_STATUS if why == INTERRUPTED else 1)


def fail(message: str) -> NoReturn:
    """Exits with an error."""
    stderr.print(message, highlight=False, markup=False)
    raise typer.Exit(1)
