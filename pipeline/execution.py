"""How a runner carries out a job: what the graphs take from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transforms.threaded_map import PREFETCHED_PHOTOS


@dataclass(frozen=True)
class Execution:
    """What the runner decides, and a job does not say. See `pipeline.runners.run.choose_execution`.

    Attributes:
        device: where the codec runs: "cpu", "cuda", or "auto" to be resolved on the worker.
        batch_pixels: photos are encoded together up to so many.
        workers: processes that the photos are shared out to beforehand; None where the runner does that.
        threads: for torch in each of them; None for torch's own choice.
        tries_again: whether work goes on in another process where one ends; see `transforms.attempts`.
        hints: Beam's resource hints for the steps that need the GPU.
        prefetch: photos that are loaded, and of decompress others that are written, while one is encoded.
        writes: photos that are range-coded and written meanwhile; None for as many as there are processors.
        progress_path: see `transforms.progress.report`.
        stop_path: see `transforms.progress.request_stop`.
    """

    device: str
    batch_pixels: int
    workers: int | None
    threads: int | None
    tries_again: bool
    hints: Mapping[str, str] = field(default_factory=dict)
    prefetch: int = PREFETCHED_PHOTOS
    writes: int | None = PREFETCHED_PHOTOS
    progress_path: str | None = None
    stop_path: str | None = None
