"""How long other Python threads stand still while a photo's symbols are coded: here, and in a coder process.

    python -m tests.benchmarks.lock [--megapixels 12]

The range coder holds Python's lock in each call. A second thread runs all the while and notes how much time
this process spent between two of its turns: time in the process, so that others on the machine do not count.
Symbols are random, at about half a bit a pixel; the context model has predicted them beforehand.
"""

import argparse
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor

from model.coding import processes, range_coder
from model.coding.entropy import predict_iteration
from model.coding.processes import RemoteReader
from model.coding.range_coder import Integers, StreamReader
from model.coding.steps import CODE_STRIDE
from model.weights.loading import load_weights

_TURN = 0.0005  # seconds; longer ones between two turns are a standstill


def random_codes(megapixels: float, symbols: int) -> Tensor:
    """(1, symbols, h, w), as a photo's: nearly all are 0 beyond the first of them."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5 / CODE_STRIDE)
    random = torch.Generator().manual_seed(0)
    spread = torch.exp(-torch.arange(symbols) / 16)[:, None, None]
    return (torch.randn(1, symbols, height, height * 4 // 3, generator=random) * spread).round()


@torch.inference_mode()
def predicted(megapixels: float) -> list[tuple[Integers, Integers]]:
    """What is to be coded of each step that has any symbols: distances and shapes."""
    context = load_weights().context
    codes = random_codes(megapixels, sum(context.groups[0]))
    (stream,) = predict_iteration(context, 0, None, codes, torch.zeros(1))
    return [step for step in stream._steps if len(step[0])]


def standstills(work: Callable[[], object]) -> tuple[float, list[float]]:
    """Seconds that some work takes, and of those of this process another thread's standstills meanwhile."""
    longer: list[float] = []
    ready, done = threading.Event(), threading.Event()

    def take_turns() -> None:
        last = time.process_time()
        ready.set()
        while not done.is_set():
            now = time.process_time()
            if now - last > _TURN:
                longer.append(now - last)
            last = now

    thread = threading.Thread(target=take_turns)
    thread.start()
    ready.wait()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    done.set()
    thread.join()
    return seconds, longer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = predicted(arguments.megapixels)
    stream = range_coder.encode(steps)
    print(f"{len(stream)} bytes")

    def read(reader: StreamReader | RemoteReader) -> None:
        for _, shape in steps:
            reader.read(shape)
        reader.finish()

    works: dict[str, Callable[[], object]] = {
        "encoding in this process": lambda: range_coder.encode(steps),
        "encoding in a coder process": lambda: processes.encode(steps),
        "decoding in this process": lambda: read(StreamReader(stream)),
        "decoding in a coder process": lambda: processes.decode(stream, read),
    }
    for name, work in works.items():
        work()  # makes tables, and the process
        started = time.perf_counter()
        work()
        alone = time.perf_counter() - started
        seconds, longer = standstills(work)
        print(
            f"{name}: {alone * 1e3:.0f} ms alone, {seconds * 1e3:.0f} ms beside another thread, which "
            f"stood still {sum(longer) * 1e3:.0f} ms, {max(longer, default=0) * 1e3:.1f} ms at the longest"
        )


if __name__ == "__main__":
    main()
