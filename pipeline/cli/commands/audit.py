import json
import secrets
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

from model.codec import Codec
from pipeline.audit.compare import compare, print_comparison
from pipeline.audit.manifests import WhereError, open_manifests
from pipeline.audit.report import AuditReport, print_audit, read_audit
from pipeline.audit.verify import Verification, print_safe_to_delete, print_verification, verify
from pipeline.cli.options import AsJson, Device, DeviceOption, StoragePrice, find_device
from pipeline.cli.terminal import fail, stderr, stdout
from pipeline.estimate.costs import STORAGE_PRICE
from transforms.storage.files import write_bytes


def audit(
    manifests: Annotated[
        list[str], typer.Argument(metavar="MANIFEST", help="Folders of manifests, of runs or OUTPUT.")
    ],
    as_json: AsJson = False,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
    where: Annotated[str | None, typer.Option(help="An SQL condition on the manifest's columns.")] = None,
    storage_price: StoragePrice = STORAGE_PRICE,
    run: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="An earlier run to compare with.")
    ] = None,
    verified: Annotated[
        str | None, typer.Option("--verify", metavar="N|all", help="Read back and measure so many photos.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the photos for --verify.")] = None,
    safe_to_delete: Annotated[
        str | None, typer.Option(metavar="FILE", help="List originals that may be deleted. Deletes nothing.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Sum up what manifests say, for people, machines or as a page; and verify it."""
    count = _photos_to_verify(verified, safe_to_delete)
    if run is not None and (html or verified):
        raise typer.BadParameter("goes with neither --html nor --verify", param_hint="--compare")
    device_found = find_device(device)
    if safe_to_delete is not None:
        _write_list(safe_to_delete, [])  # fails at once if it cannot be written; removes an earlier call's
    verification = None
    try:
        if run is not None:
            _compare_and_exit(manifests, run, where, as_json)
        with open_manifests(manifests, where) as database:
            report = read_audit(database, storage_price)
            if not as_json:
                print_audit(report, stdout)
            if html is not None:
                # Here, not above: the page's libraries would delay every other command.
                from pipeline.audit.page.write import write_page  # noqa: PLC0415

                write_page(database, report, html, manifests, where, device_found)
            if verified is not None:
                chosen_by = secrets.randbelow(1 << 32) if seed is None else seed
                verification = verify(database, Codec.load(device_found), count, chosen_by, stderr)
    except WhereError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from error
    except (OSError, ValueError) as error:
        fail(str(error))
    _print_findings(report, verification, safe_to_delete, as_json)
    _fail_if_skipped(report.skipped)
    raise typer.Exit(1 if verification is not None and not verification.is_complete else 0)


def _photos_to_verify(verified: str | None, safe_to_delete: str | None) -> int | None:
    """How many photos --verify asks for; None for all, or for no verification at all."""
    if safe_to_delete is not None and verified != "all":
        message = "nothing was written: without --verify all nothing can be promised"
        raise typer.BadParameter(message, param_hint="--safe-to-delete")
    if verified in (None, "all"):
        return None
    if not verified.isdecimal() or int(verified) < 1:
        raise typer.BadParameter(f"{verified}: neither a number from 1 nor all", param_hint="--verify")
    return int(verified)


def _print_findings(
    report: AuditReport, verification: Verification | None, list_to: str | None, as_json: bool
) -> None:
    """Prints what verifying found before it writes the list: that may fail, and the findings took hours."""
    if verification is not None and list_to is not None:
        verification.drop_changed(stderr)
    if as_json:
        print(json.dumps({**asdict(report), "verification": verification and verification.summary()}))
    elif verification is not None:
        print_verification(verification, stdout)
    if verification is not None and list_to is not None:
        _write_list(list_to, verification.safe_to_delete)
        if not as_json:
            print_safe_to_delete(verification, list_to, stdout)


def _write_list(path: str, uris: list[str]) -> None:
    try:
        write_bytes(path, "".join(f"{uri}\n" for uri in uris).encode())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="--safe-to-delete") from error


def _compare_and_exit(manifests: list[str], run: str, where: str | None, as_json: bool) -> NoReturn:
    comparison = compare(manifests, run, where)
    if as_json:
        print(json.dumps(asdict(comparison)))
    else:
        print_comparison(comparison, stdout)
    _fail_if_skipped(comparison.skipped)
    raise typer.Exit


def _fail_if_skipped(skipped: list[dict[str, str]]) -> None:
    """Names the manifest files that could not be read, and exits if there are any."""
    for file in skipped:
        stderr.print(f"skipped: {file['uri']}: {file['reason']}", highlight=False, markup=False)
    if skipped:
        raise typer.Exit(1)
