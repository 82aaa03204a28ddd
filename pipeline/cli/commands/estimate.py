import json
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.terminal import fail, stderr, stdout
from pipeline.estimate import sampling
from pipeline.estimate.costs import Plan


def estimate(
    source: Annotated[str, options.place("INPUT", "Folder, file, glob or gs:// prefix.")],
    target_ms_ssim: options.TargetMsSsim = None,
    max_bpp: options.MaxBpp = None,
    iterations: options.EncodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
    sample: Annotated[int, typer.Option(min=2, help="Photos to encode here.")] = Plan.sample,
    workers: Annotated[int, typer.Option(min=1, help="Dataflow workers.")] = Plan.workers,
    worker_price: Annotated[float, typer.Option(min=0, help="USD an hour of one.")] = Plan.worker_price,
    worker_speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Megapixels a second of one.", show_default="an L4's, assumed"),
    ] = None,
    storage_price: options.StoragePrice = Plan.storage_price,
    as_json: options.AsJson = False,
) -> None:
    """Say what compressing would take, cost and save, from a sample. Writes nothing."""
    settings = options.read_settings(target_ms_ssim, max_bpp, iterations)
    plan = Plan(sample, workers, worker_price, worker_speed, storage_price)
    try:
        found = sampling.estimate(source, settings, options.find_device(device), plan, stderr)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="INPUT") from error
    except ValueError as error:
        fail(str(error))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        sampling.print_estimate(found, stdout)
