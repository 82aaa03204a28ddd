"""How long other Python threads stand still while a photo's symbols are range-coded.

    python -m tests.benchmarks.lock [--megapixels 12]

The range coder holds Python's lock in each call. A second thread runs all the while and notes how much time
this process spent between two of its turns: time in the process, so that others on the machine do not count.
Symbols are random, at about half a bit a pixel; the context model has predicted them beforehand.
"""

import argparse
import threading
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from model.coding.context import ContextModel
from model.coding.entropy import encode_iteration
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
def prepared(megapixels: float) -> Callable[[], list[bytes]]:
    """Coding alone, of symbols whose predictions are known."""
    context = load_weights().context
    codes, level = random_codes(megapixels, sum(context.groups[0])), torch.zeros(1)
    known = context.known(0, None, codes)
    predictions = [context.predict(step, known, level) for step in context.steps(0)]

    def work() -> list[bytes]:
        with torch.inference_mode(), patch.object(ContextModel, "predict", side_effect=predictions):
            return encode_iteration(context, 0, None, codes, level)

    return work


def standstills(work: Callable[[], object]) -> tuple[float, list[float]]:
    """Seconds that this process spends on some work, and those of another thread's standstills meanwhile."""
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
    started = time.process_time()
    work()
    seconds = time.process_time() - started
    done.set()
    thread.join()
    return seconds, longer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = prepared(arguments.megapixels)
    work()  # makes its tables
    started = time.process_time()
    (stream,) = work()
    alone = time.process_time() - started
    seconds, longer = standstills(work)
    print(f"{len(stream)} bytes; coding alone takes {alone * 1e3:.0f} ms")
    print(
        f"of {seconds * 1e3:.0f} ms with another thread it stood still {sum(longer) * 1e3:.0f} ms, "
        f"{max(longer, default=0) * 1e3:.1f} ms at the longest"
    )


if __name__ == "__main__":
    main()
