"""Megapixels per second of the bare codec and of the whole pipeline, on the same photos in one run.

    python -m tests.benchmarks.throughput [--photos 6] [--width 2000] [--height 1500] [--device cpu]

Prints the machine's convolution throughput, what share of it the bare codec reaches, and what share of the
bare codec's speed the pipeline reaches.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from apache_beam.options.pipeline_options import PipelineOptions
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from model.codec import Codec, Goal
from model.files import choose_device
from model.network import CODE_STRIDE
from model.photos.reading import read_photo
from model.settings import Settings
from model.weights.loading import model_id
from pipeline.compress import CompressJob, compress
from pipeline.runners.run import choose_execution, run
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


@torch.inference_mode()
def operations_per_pixel(codec: Codec) -> list[float]:
    """Of each iteration, twice its multiply-accumulates for each pixel, with the context model's."""
    model, operations = codec.model, []
    images = torch.rand(1, 3, 256, 256, device=codec.device)
    reconstruction = model.first_reconstruction(images)
    codes = torch.empty(1, 0, 256 // CODE_STRIDE, 256 // CODE_STRIDE, device=codec.device)
    for i in range(codec.iterations):
        stage = model.stage(i)
        if i == stage.first:
            states = stage.encoder_state(), stage.decoder_state()
        with FlopCounterMode(display=False) as counter:
            logits, encoder = stage.encode(images, reconstruction, states[0], i)
            bits = torch.where(logits >= 0, 1.0, -1.0)
            reconstruction, decoder = stage.decode(bits, reconstruction, states[1], i)
            codes, states = torch.cat([codes, bits], dim=1), (encoder, decoder)
            model.context.cross_entropy(codes, i)
        operations.append(counter.get_total_flops() / images[:, 0].numel())
    return operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    codec = Codec.load(device)
    peak, cost = convolution_flops(codec), operations_per_pixel(codec)
    print(f"{device}, {codec.dtype}, {torch.get_num_threads()} threads")
    print(f"3x3 convolution: {peak / 1e9:.0f} GFLOP/s")
    print("kMAC a pixel of each iteration:", *(f"{operations / 2e3:.1f}" for operations in cost))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        paths = list(make_photos(folder, arguments.photos, arguments.width, arguments.height))
        photos = [read_photo(path.read_bytes()).pixels for path in paths]
        megapixels = sum(pixels.shape[0] * pixels.shape[1] for pixels in photos) / 1e6
        goal = Goal(iterations=arguments.iterations)
        codec.encode(photos[:1], [goal], [False])  # warm up

        started = time.perf_counter()
        for pixels in photos:
            codec.encode([pixels], [goal], [False])
        bare = megapixels / (time.perf_counter() - started)

        settings = Settings(iterations=arguments.iterations)
        this_run = Run("benchmark", model_id(), settings.to_json())
        options = PipelineOptions([])
        job = CompressJob(find_source(str(folder)), str(Path(temporary) / "out"), settings, this_run, device)
        started = time.perf_counter()
        run(partial(compress, job), choose_execution(options, device), options)
        whole = megapixels / (time.perf_counter() - started)

    share = f"{bare * 1e6 * sum(cost[: arguments.iterations]) / peak:.0%} of the convolution's speed"
    print(f"bare codec: {bare:.3f} MP/s over {arguments.iterations} iterations, {share}")
    print(f"pipeline:   {whole:.3f} MP/s, {whole / bare:.0%} of the bare codec's (its start included)")


if __name__ == "__main__":
    main()
