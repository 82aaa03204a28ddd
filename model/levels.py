"""Which level of the gain each photo of a batch takes in an iteration."""

import math

from torch import Tensor

from model.batch import Batch, State, rows
from model.entropy import encode_iteration
from model.network import CODE_STRIDE
from model.search import LEVELS, TOP, Band, LevelSearch, logarithm
from model.stages import Stages


def choose_levels(
    stages: Stages, batch: Batch, latents: Tensor, iteration: int, tile: int
) -> tuple[list[int], dict[int, float], dict[int, bytes]]:
    """A level for each photo: one that meets its goal, or `TOP` where more iterations may.

    Of photos with a target also the MS-SSIM at their level, and of those with a limit the stream.
    """
    levels = [TOP] * len(batch.jobs)
    targets = {n: job.goal.ms_ssim for n, job in enumerate(batch.jobs) if job.goal.ms_ssim is not None}
    searches = {n: LevelSearch(Band.of_ms_ssim(target)) for n, target in targets.items()}
    measured: dict[tuple[int, int], float] = {}
    while searches:
        which = list(searches)
        trial = [search.next_level for search in searches.values()]
        part, at = batch.select(which), stages.level_tensor(trial)
        symbols = stages.quantized(rows(which, latents)[0], iteration, at)
        reconstructions, _ = stages.synthesize(symbols, at, part.state, iteration, tile)
        qualities = part.qualities(reconstructions, range(len(which)))
        for n, level, quality in zip(which, trial, qualities, strict=True):
            measured[n, level] = quality
            searches[n].add(level, logarithm(quality))
            if searches[n].done:
                answer = searches.pop(n).answer
                levels[n] = TOP if answer is None else answer
    streams = {}
    for n, job in enumerate(batch.jobs):
        if (left := job.bytes_left()) is not None and left > 0:
            state = batch.select([n]).state
            levels[n], streams[n] = _level_that_fits(stages, latents[n : n + 1], state, iteration, left)
    return levels, {n: measured[n, levels[n]] for n in targets if (n, levels[n]) in measured}, streams


def _level_that_fits(
    stages: Stages, latents: Tensor, state: State, iteration: int, limit: int
) -> tuple[int, bytes]:
    """A level at which one photo's stream has `limit` bytes or little less, and that stream.

    The lowest one if none has so few; the one that another iteration may follow if all have.
    """
    search = LevelSearch(Band.of_bytes(limit, latents[0, 0].numel() * CODE_STRIDE**2))
    streams: dict[int, bytes] = {}

    def stream(level: int) -> bytes:
        if level not in streams:
            at = stages.level_tensor([level])
            symbols = stages.quantized(latents, iteration, at)
            (streams[level],) = encode_iteration(stages.model.context, iteration, state.symbols, symbols, at)
        return streams[level]

    while not search.done:
        level = search.next_level
        search.add(level, math.log(max(len(stream(level)), 1)))
    level = TOP if search.answer == LEVELS - 1 else search.answer or 0
    return level, stream(level)
