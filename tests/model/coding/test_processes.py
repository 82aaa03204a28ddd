import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from model.coding import entropy, processes, range_coder
from model.coding.entropy import decode_iteration, encode_iteration
from model.coding.processes import CoderPool, RemoteReader
from model.coding.range_coder import Integers, StreamReader
from tests.conftest import tiny_model
from tests.model.coding.test_entropy import LEVEL, before, random_codes

RANDOM = np.random.default_rng(0)
STEPS = [
    (
        RANDOM.normal(0, 2, length).round().astype(np.int16),
        RANDOM.integers(0, 2832, length).astype(np.int16),
    )
    for length in (1, 0, 1000, 40_000)
]
STREAM = range_coder.encode(STEPS)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[CoderPool]:
    """That this process codes with, in children of its own."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pool = CoderPool()
    monkeypatch.setattr(processes, "_pool", lambda _: pool)
    started = children()
    yield pool
    pool.close()
    assert children() <= started


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def read_steps(reader: StreamReader | RemoteReader) -> list[Integers]:
    distances = [reader.read(shape) for _, shape in STEPS if len(shape)]
    reader.finish()
    return distances


def check_read(distances: list[Integers]) -> None:
    for read, (written, _) in zip(distances, [step for step in STEPS if len(step[0])], strict=True):
        assert np.array_equal(read, written)


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("iteration", [0, 1])
def test_streams_are_the_same_as_in_this_process(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    context, codes, previous = tiny_model().context, random_codes(iteration), before(iteration)
    (stream,) = encode_iteration(context, iteration, previous, codes, LEVEL)
    monkeypatch.setattr(entropy, "_IN_PROCESSES", {"cpu"})
    before_coding = children()
    assert encode_iteration(context, iteration, previous, codes, LEVEL) == [stream]
    assert torch.equal(decode_iteration(context, iteration, previous, (10, 14), LEVEL, stream), codes)
    assert len(children() - before_coding) == 1


@pytest.mark.usefixtures("pool")
def test_threads_share_as_many_children_as_there_are_processors() -> None:
    before_coding = children()
    with ThreadPoolExecutor(5) as threads:
        streams = list(threads.map(lambda _: processes.encode(STEPS), range(15)))
        for distances in threads.map(lambda stream: processes.decode(stream, read_steps), streams):
            check_read(distances)
    assert set(streams) == {STREAM}
    assert 1 <= len(children() - before_coding) <= 2


def test_where_a_child_ends_another_codes_the_same(pool: CoderPool) -> None:
    def killed(child: Any, times: list[int], task: Callable[[], Any]) -> Any:
        if times:
            times.pop()
            child.process.kill()
        return task()

    def read(times: list[int]) -> list[Integers]:
        return processes.decode(STREAM, lambda r: killed(r._child, times, lambda: read_steps(r)))

    check_read(read([1]))
    with pytest.raises(RuntimeError, match="two coder processes ended"):
        read([1, 2])
    check_read(read([]))
    encode = lambda child: processes._encode_there(child, STEPS)  # noqa: E731
    times = [1]
    assert pool.work(lambda child: killed(child, times, lambda: encode(child))) == STREAM
    idle = pool.take()
    pool.give_back(idle)
    idle.process.kill()
    assert processes.encode(STEPS) == STREAM


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("stream", [b"abc", b"\xff" * 4000, STREAM[:-400], STREAM + STREAM])
def test_what_no_encoder_wrote_is_refused_in_the_same_words(stream: bytes) -> None:
    with pytest.raises(ValueError, match="stream of") as here:
        read_steps(StreamReader(stream))
    with pytest.raises(ValueError, match="stream of") as there:
        processes.decode(stream, read_steps)
    assert str(there.value) == str(here.value)
    check_read(processes.decode(STREAM, read_steps))


@pytest.mark.usefixtures("pool")
def test_a_reader_that_gives_up_leaves_nothing_to_the_next() -> None:
    def give_up(reader: RemoteReader) -> None:
        reader.read(STEPS[0][1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.decode(STREAM, give_up)
    check_read(processes.decode(STREAM, read_steps))


def test_children_end_with_a_parent_that_is_killed() -> None:
    program = """
import time
from model.coding import processes
def wait(_):
    print("ready", flush=True)
    time.sleep(60)
processes.encode([])
processes.decode(b"", wait)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout and parent.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(parent.pid).children()
    assert os.getsid(child.pid) != os.getsid(0)  # Ctrl-C is meant for the run
    assert "torch" not in Path(f"/proc/{child.pid}/maps").read_text()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(10)


@pytest.mark.usefixtures("pool")
def test_the_current_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert processes.encode(STEPS) == STREAM


@pytest.mark.usefixtures("pool")
def test_what_a_child_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert processes.encode(STEPS) == STREAM
