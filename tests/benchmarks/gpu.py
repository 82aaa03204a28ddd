"""The codec on a GPU, measured in one command of less than eight minutes.

    python -m tests.benchmarks.gpu [--megapixels 0.5 12 48] [--device auto] [--weights FILE] [--target T]

Needs torch, constriction and safetensors alone. In this order, each printed as soon as it is known: whether
streams are the CPU's, to the bit; megapixels a second of encoding and decoding at each size, of a mixed set
and of thumbnails one by one and together, and peak memory; the same of several processes at once, since one
has one lock for all its threads; of one photo of the middle size, kernels, copies, waits for the device, and
where time goes; and, where Beam is installed, the pipeline beside the bare codec. Pictures are synthetic. On
a CPU the same is tried out, and kernels are counted.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import multiprocessing
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function

from model import codec as codec_module
from model.batches import stages, tensors
from model.batches.batch import Encoding, Goal
from model.batches.search import position
from model.canvas import groups
from model.codec import Codec
from model.coding import entropy
from model.coding.context import ContextModel
from model.coding.entropy import encode_iteration
from model.format.container import RgcFile
from model.format.limits import padded_size
from model.settings import DEFAULT_TARGET_MS_SSIM
from model.weights.loading import DEFAULT_WEIGHTS
from tests.benchmarks.kernels import as_on_a_gpu

Pixels = NDArray[np.uint8]
MIXED = (0.3, 0.5, 0.5, 1, 2, 2, 5, 8, 12, 12)  # megapixels of an archive of phone pictures and thumbnails
PROCESSES = (2, 4, 8)
_LEAST_SECONDS = 5.0  # that a speed is measured for
_PARTS: dict[str, list[tuple[Any, str]]] = {
    "networks": [(stages, "run_tiled")],
    "MS-SSIM": [(tensors, "ms_ssim")],
    "context model and coding": [
        (codec_module, "predict_iteration"),
        (codec_module, "decode_iteration"),
        (entropy, "predict_iteration"),
        (entropy.Stream, "__bytes__"),
    ],
    "context model alone": [(ContextModel, "predict")],
}
_THUMBNAILS = 24
_AT_ONCE = 8  # photos in a call that is measured on a GPU: some are range-coded while others are encoded
_SOME_PHOTOS, _MORE_PHOTOS = 4, 34  # through the pipeline: what more of them take leaves out its start


def picture(width: int, height: int, seed: int = 0) -> Pixels:
    """A photo's spectrum: noise of many sizes, coarse noise stronger. (H, W, 3)."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.full((1, 3, height, width), 0.5)
    for octave in range(9):
        size = height // 2**octave + 2, width // 2**octave + 2
        noise = torch.randn(1, 3, *size, generator=random) * 0.2 * 0.6 ** (8 - octave)
        pixels += F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    return np.ascontiguousarray((pixels[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy())


def thumbnails(count: int, megapixels: float) -> list[Pixels]:
    """Pictures up to so large, of sides that all differ."""
    width, height = sides(megapixels)
    random = np.random.default_rng(0)
    both = [(round(width * a), round(height * b)) for a, b in random.uniform(0.7, 1, (count, 2))]
    return [picture(max(w, 1), max(h, 1), seed) for seed, (w, h) in enumerate(both)]


def sides(megapixels: float) -> tuple[int, int]:
    """Width and height of a 4:3 photo."""
    height = max(round((megapixels * 1e6 * 3 / 4) ** 0.5), 1)
    return height * 4 // 3, height


def file_of(codec: Codec, pixels: Pixels, encoding: Encoding) -> RgcFile:
    height, width = pixels.shape[:2]
    return RgcFile(
        width=width, height=height, grey=False, model_id=codec.model_id, levels=encoding.levels,
        ms_ssim=encoding.ms_ssim, codes=encoding.codes,
    )  # fmt: skip


def encode(codec: Codec, photos: Sequence[Pixels], goal: Goal, together: bool = False) -> list[RgcFile]:
    """One by one; or `together`, as a GPU takes photos of similar sizes, in another order.

    They are range-coded in threads meanwhile, as the pipeline does.
    """
    alone = [[n] for n in range(len(photos))]
    sizes = [padded_size(*pixels.shape[:2]) for pixels in photos]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        files = []
        for batch in groups(sizes, mixed=True) if together else alone:
            some = [photos[n] for n in batch]
            encodings = codec.encode(some, [goal] * len(batch), [False] * len(batch))
            files += [threads.submit(file_of, codec, *both) for both in zip(some, encodings, strict=True)]
        return [file.result() for file in files]


def check_exact(codec: Codec, weights: Path, pixels: Pixels) -> str:
    """Compares symbols and streams with the CPU's.

    Raises:
        AssertionError: they differ.
    """
    (file,) = encode(codec, [pixels], Goal(iterations=codec.iterations))
    here = Codec.load("cpu", weights=weights)
    decoded, previous = here.symbols(file), None
    for i, (symbols, theirs) in enumerate(zip(decoded, codec.symbols(file), strict=True)):
        assert torch.equal(symbols, theirs.cpu()), f"symbols of iteration {i + 1} differ"
        level = torch.from_numpy(position([file.levels[i]]))
        (stream,) = encode_iteration(here.model.context, i, previous, symbols, level)
        assert stream == file.codes[i], f"streams of iteration {i + 1} differ"
        previous = symbols
    difference = np.abs(codec.decode(file).astype(int) - here.decode(file)).max()
    return (
        f"{len(decoded)} iterations, symbols and streams as on the CPU; pixels differ by {difference} at most"
    )


def speed(work: Callable[[], object], megapixels: float, least_seconds: float) -> float:
    """Megapixels a second, after one call that is not counted."""
    work()
    started, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - started < least_seconds:
        work()
        calls += 1
    return calls * megapixels / (time.perf_counter() - started)


def measure_speed(
    name: str,
    codec: Codec,
    photos: Sequence[Pixels],
    goal: Goal,
    least_seconds: float,
    together: bool = False,
) -> None:
    megapixels = sum(pixels[:, :, 0].size for pixels in photos) / 1e6
    on_gpu = codec.device.type == "cuda"
    files = encode(codec, photos, goal, together)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    encoding = speed(lambda: encode(codec, photos, goal, together), megapixels, least_seconds)
    memory = f", {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if on_gpu else ""
    decoding = speed(lambda: [codec.decode(file) for file in files], megapixels, least_seconds)
    rate = sum(len(data) for file in files for data in file.codes) * 8 / megapixels / 1e6
    print(
        f"{name}: encode {encoding:.2f} MP/s, decode {decoding:.2f} MP/s, {rate:.2f} bits a pixel{memory}",
        flush=True,
    )


def encode_beside(
    results: Any, ready: Any, device: str, weights: Path, photo: Pixels, goal: Goal, least_seconds: float
) -> None:
    """One process of `measure_processes`: puts its megapixels a second into a queue."""
    torch.set_num_threads(1)
    codec = Codec.load(device, weights=weights)
    encode(codec, [photo], goal)
    ready.wait()
    results.put(speed(lambda: encode(codec, [photo], goal), photo[:, :, 0].size / 1e6, least_seconds))


def measure_processes(count: int, device: str, weights: Path, photo: Pixels, goal: Goal) -> float:
    """Megapixels a second of so many processes together that encode a photo again and again."""
    spawn = multiprocessing.get_context("spawn")
    results, ready = spawn.Queue(), spawn.Barrier(count)
    work = (results, ready, device, weights, photo, goal, _LEAST_SECONDS)
    processes = [spawn.Process(target=encode_beside, args=work) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"one of {count} processes ended with status {process.exitcode}")
    return sum(results.get() for _ in processes)


@contextmanager
def named_parts() -> Iterator[None]:
    """The profiler knows the codec's parts by name."""

    def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def with_name(*arguments: Any, **options: Any) -> Any:
            with record_function(name):
                return function(*arguments, **options)

        return with_name

    with ExitStack() as stack:
        for name, places in _PARTS.items():
            for owner, attribute in places:
                stack.enter_context(patch.object(owner, attribute, named(name, getattr(owner, attribute))))
        yield


def print_profile(name: str, codec: Codec, work: Callable[[], object]) -> None:
    """Of one call, the second: kernels, copies, waits, and each part's share of the time."""
    on_gpu = codec.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    work()
    with named_parts(), profile(activities=activities) as profiler:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    events = profiler.events()
    if on_gpu:
        there = [
            event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation
        ]
        copies = [event for event in there if event.name.startswith("Mem")]
        waits = [event for event in events if "Synchronize" in event.name]
        busy = sum(event.device_time_total for event in there) / 1e6
        copying = sum(event.device_time_total for event in copies) / 1e6
        counted = (
            f"{len(there) - len(copies)} kernels, {len(copies)} copies and fills, {len(waits)} waits; "
            f"copies {copying / seconds:.0%}, GPU idle {1 - busy / seconds:.0%}"
        )
    else:
        with as_on_a_gpu() as counter:
            work()
        counted = f"{counter.kernels} kernels on a GPU"
    print(f"{name}, {seconds:.3f} s with the profiler: {counted}", flush=True)
    for part in profiler.key_averages():
        if part.key in _PARTS and part.device_type == DeviceType.CPU:  # the GPU has annotations of its own
            host, device = part.cpu_time_total / 1e6, part.device_time_total / 1e6
            shares = f"host {host / seconds:.0%}" + (f", GPU {device / seconds:.0%}" if on_gpu else "")
            print(f"  {part.key}: {shares} of the time", flush=True)


def print_pipeline(megapixels: float, codec: Codec, goal: Goal) -> None:
    """The pipeline's speed beside the bare codec's, on the same photos."""
    if importlib.util.find_spec("apache_beam") is None:
        print("pipeline: Beam is not installed")
        return
    # Where Beam is not, what these need may not be either.
    from model.photos.reading import read_photo  # noqa: PLC0415
    from model.settings import Settings  # noqa: PLC0415
    from tests.benchmarks.photos import make_photos  # noqa: PLC0415
    from tests.benchmarks.throughput import pipeline_speed  # noqa: PLC0415

    width, height = sides(megapixels)
    settings, seconds = Settings(target_ms_ssim=goal.ms_ssim), []
    with tempfile.TemporaryDirectory() as temporary:
        for count in (_SOME_PHOTOS, _MORE_PHOTOS):
            folder, out, total = (
                Path(temporary) / f"{count}",
                Path(temporary) / "out",
                count * width * height / 1e6,
            )
            paths = list(make_photos(folder, count, width, height))
            seconds.append(
                total / pipeline_speed(folder, out / f"{count}", settings, codec.device.type, total)
            )
        photos = [read_photo(path.read_bytes()).pixels for path in paths]
    bare = speed(lambda: encode(codec, photos, goal), total, 0)
    more = total * (1 - _SOME_PHOTOS / _MORE_PHOTOS) / (seconds[1] - seconds[0])
    times = f"{_SOME_PHOTOS} photos in {seconds[0]:.1f} s, {_MORE_PHOTOS} in {seconds[1]:.1f} s"
    print(f"pipeline: {times}, so {more:.2f} MP/s once begun; the bare codec {bare:.2f} MP/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs=3, default=[0.5, 12.0, 48.0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--target", type=float, default=DEFAULT_TARGET_MS_SSIM)
    arguments = parser.parse_args()
    started = time.perf_counter()
    small, middle, large = arguments.megapixels
    codec, goal = Codec.load(arguments.device, weights=arguments.weights), Goal(ms_ssim=arguments.target)
    name = torch.cuda.get_device_name() if codec.device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {codec.dtype}, model {codec.model_id}", flush=True)
    print("exactness:", check_exact(codec, arguments.weights, picture(*sides(small))), flush=True)
    scale = middle / max(MIXED)
    mixed = [picture(*sides(share * scale), seed) for seed, share in enumerate(MIXED)]
    at_once = _AT_ONCE if codec.device.type == "cuda" else 1
    for megapixels in (small, middle, large):
        photo = picture(*sides(megapixels))
        measure_speed(f"{megapixels} megapixels", codec, [photo] * at_once, goal, _LEAST_SECONDS)
    measure_speed(f"mixed, {len(mixed)} photos", codec, mixed, goal, _LEAST_SECONDS)
    little = thumbnails(_THUMBNAILS, small / 2)
    for together, how in ((False, "one by one"), (True, "together")):
        measure_speed(f"{len(little)} thumbnails, {how}", codec, little, goal, _LEAST_SECONDS, together)
        work = partial(encode, codec, little, goal, together)
        print_profile(f"encode {len(little)} thumbnails, {how}", codec, work)
    photo = picture(*sides(middle))
    for count in PROCESSES:
        together = measure_processes(count, arguments.device, arguments.weights, photo, goal)
        print(f"{count} processes, {middle} megapixels: encode {together:.2f} MP/s together", flush=True)
    (file,) = encode(codec, [photo], goal)
    print_profile(f"encode {middle} megapixels", codec, lambda: encode(codec, [photo], goal))
    print_profile(f"decode {middle} megapixels", codec, lambda: codec.decode(file))
    if arguments.weights == DEFAULT_WEIGHTS:
        print_pipeline(middle, codec, goal)
    print(f"all in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
