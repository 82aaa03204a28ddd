"""Which level of the gain each photo of a batch takes in an iteration."""

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches.batch import Batch, State
from model.batches.search import LEVELS, TOP, Band, LevelSearch, logarithm
from model.batches.stages import Stages
from model.batches.tensors import quality
from model.coding.entropy import encode_iteration
from model.coding.steps import CODE_STRIDE
from model.format.limits import MARGIN, STRIDE

# A large photo is tried on a few squares of it first. That costs little, and tells its own curve.
SQUARES, SIDE = 8, 256  # in pixels; MS-SSIM has all its scales there
LARGE = 8 * SQUARES * SIDE**2  # pixels
_GOLDEN_RATIO = 0.618  # its multiples, without their integers, are evenly spread


def choose_levels(
    stages: Stages, batch: Batch, latents: Tensor, iteration: int, tile: int
) -> tuple[list[int], dict[int, float], dict[int, bytes]]:
    """A level for each photo: one that meets its goal, or `TOP` where more iterations may.

    Of photos with a target also the MS-SSIM at their level, and of those with a limit the stream.
    """
    levels = [TOP] * len(batch.jobs)
    targets = {n: job.goal.ms_ssim for n, job in enumerate(batch.jobs) if job.goal.ms_ssim is not None}
    bands = {n: Band.of_ms_ssim(target) for n, target in targets.items()}
    for n, band in bands.items():
        size = batch.jobs[n].size  # not the canvas's: a photo takes the same levels in any company
        if math.prod(size) >= LARGE and min(size) >= SIDE:
            (own,) = batch.rows([n], latents)
            curve = _curve_of_squares(stages, batch.select([n]), own, iteration, band)
            bands[n] = replace(band, typical=curve)
    searches = {n: LevelSearch(band) for n, band in bands.items()}
    measured: dict[tuple[int, int], float] = {}
    while searches:
        which = list(searches)
        trial = [search.next_level for search in searches.values()]
        part, at = batch.select(which), stages.level_tensor(trial)
        (own,) = batch.rows(which, latents)
        symbols = stages.quantized(own, iteration, at, part.state.extents)
        reconstructions, _ = stages.synthesize(symbols, at, part.state, iteration, tile)
        qualities = part.qualities(reconstructions, range(len(which)))
        for n, level, ms_ssim in zip(which, trial, qualities, strict=True):
            measured[n, level] = ms_ssim
            searches[n].add(level, logarithm(ms_ssim))
            if searches[n].done:
                answer = searches.pop(n).answer
                levels[n] = TOP if answer is None else answer
    streams = {}
    for n, job in enumerate(batch.jobs):
        if (left := job.bytes_left()) is not None and left > 0:
            (own,) = batch.rows([n], latents)
            state = batch.select([n]).state
            levels[n], streams[n] = _level_that_fits(stages, own, state, iteration, left)
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


def _curve_of_squares(
    stages: Stages, photo: Batch, latents: Tensor, iteration: int, band: Band
) -> NDArray[np.float64]:
    """-ln(1 - MS-SSIM) of parts of one photo at each level, exact near the band."""
    height = photo.images.shape[2]
    state = photo.state.map(lambda x: _squares(x, height))
    images, parts, grey = _squares(photo.images, height), _squares(latents, height), photo.jobs[0].grey
    search, inner = LevelSearch(band), SIDE - 2 * MARGIN
    while not search.done:
        level = search.next_level
        at = stages.level_tensor([level] * SQUARES)
        decoded, _ = stages.synthesize(stages.quantized(parts, iteration, at), at, state, iteration, SIDE)
        both = zip(decoded, images, strict=True)
        qualities = torch.cat([quality(part, image, inner, inner, grey) for part, image in both])
        search.add(level, logarithm(qualities.mean().item()))
    return search.curve


def _squares(whole: Tensor, pixels_high: int) -> Tensor:
    """Parts (SQUARES, C, h, w) of a plane (1, C, H, W), which may be coarser than the photo's pixels."""
    stride = pixels_high // whole.shape[2]
    side, parts = SIDE // stride, []
    for k in range(SQUARES):
        shares = (k + 0.5) / SQUARES, k * _GOLDEN_RATIO % 1
        top, left = (
            int(share * (length * stride - SIDE)) // STRIDE * STRIDE // stride
            for share, length in zip(shares, whole.shape[2:], strict=True)
        )
        parts.append(whole[:, :, top : top + side, left : left + side])
    return torch.cat(parts)
