"""What the codec computes, and its speed, bare and in the pipeline, on the same photos in one run.

    python -m tests.benchmarks.throughput [--photos 6] [--width 2000] [--height 1500] [--target 0.95]

Prints the machine's convolution throughput; multiply-accumulates a pixel of each iteration's networks; and,
for encoding to a target and decoding: megapixels a second, multiply-accumulates a pixel and their share of
the machine's throughput. `tests.benchmarks.codecs` puts other codecs beside it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from apache_beam.options.pipeline_options import PipelineOptions
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from model.codec import Codec
from model.files import choose_device, encode_photos
from model.photos.reading import read_photo
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings
from model.weights.loading import DEFAULT_MODEL, DEFAULT_WEIGHTS
from pipeline.compress import CompressJob, compress
from pipeline.runners.run import choose_execution, run
from tests.benchmarks.operations import operations
from tests.benchmarks.photos import make_photos
from transforms.find import find_source
from transforms.manifest.rows import Run


def convolution_flops(codec: Codec) -> float:
    """Operations per second of the 3x3 convolution that the codec spends most of its time in."""
    channels = codec.model.config.eighth_channels
    options = {"device": codec.device, "dtype": codec.dtype}
    x = torch.randn(1, channels, 128, 128, **options).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(3 * channels, channels, 3, 3, **options).contiguous(
        memory_format=torch.channels_last
    )
    operations = 2 * 9 * channels * 3 * channels * 128 * 128
    fastest = float("inf")
    for _ in range(30):
        started = time.perf_counter()
        F.conv2d(x, kernel, padding=1).sum().item()
        fastest = min(fastest, time.perf_counter() - started)
    return operations / fastest


def print_operations(codec: Codec) -> None:
    print("kMAC a pixel:  encoder  decoder  context")
    for number, counted in enumerate(operations(codec.model), start=1):
        columns = (counted.encoder, counted.decoder, counted.context)
        print(f"iteration {number}:  ", *(f"{count / 1e3:8.2f}" for count in columns))


def timed(work: Callable[[], object], megapixels: float, peak: float) -> str:
    """Speed of some work on so many megapixels, what it computes and what share of the peak that is."""
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    with FlopCounterMode(display=False) as counter:
        work()
    operations_done = counter.get_total_flops()
    share = f"{operations_done / seconds / peak:.0%} of the convolution's speed"
    return f"{megapixels / seconds:.3f} MP/s, {operations_done / 2e9 / megapixels:.1f} kMAC a pixel, {share}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--target", type=float, default=DEFAULT_TARGET_MS_SSIM)
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="for the bare codec")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device, settings = choose_device(arguments.device), Settings(target_ms_ssim=arguments.target)
    codec = Codec.load(device, weights=arguments.weights)
    peak = convolution_flops(codec)
    print(f"{device}, {codec.dtype}, {torch.get_num_threads()} threads")
    print(f"3x3 convolution: {peak / 1e9:.0f} GFLOP/s")
    print_operations(codec)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        paths = list(make_photos(folder, arguments.photos, arguments.width, arguments.height))
        photos = [read_photo(path.read_bytes()) for path in paths]
        megapixels = sum(photo.pixels[:, :, 0].size for photo in photos) / 1e6
        files = [encode_photos(codec, photos[:1], [settings])[0].file]  # warm up

        def encode() -> None:
            files[:] = [encode_photos(codec, [photo], [settings])[0].file for photo in photos]

        encoded = timed(encode, megapixels, peak)
        decoded = timed(lambda: [codec.decode(file) for file in files], megapixels, peak)
        passes = [len(file.codes) for file in files]
        print(f"encode to MS-SSIM {arguments.target}, trials and measuring included: {encoded}")
        print(f"decode: {decoded}; iterations: {', '.join(map(str, passes))}")
        if arguments.weights == DEFAULT_WEIGHTS:
            speed = pipeline_speed(folder, Path(temporary) / "out", settings, device, megapixels)
            print(f"pipeline: {speed:.3f} MP/s (its start included)")


def pipeline_speed(folder: Path, out: Path, settings: Settings, device: str, megapixels: float) -> float:
    this_run = Run("benchmark", DEFAULT_MODEL, settings.to_json())
    options = PipelineOptions([])
    job = CompressJob(find_source(str(folder)), str(out), settings, this_run)
    started = time.perf_counter()
    run(partial(compress, job), choose_execution(options, device), options)
    return megapixels / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
