"""Photos to entropy-coded iterations and back, in batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.devices import native_dtype, standard_settings, to_device, to_host
from model.entropy import decode_iteration, encode_iteration
from model.format.container import ITERATION_OVERHEAD, RgcError, RgcFile
from model.format.limits import MARGIN, padded_size
from model.ms_ssim import ms_ssim
from model.network import CODE_STRIDE, ResidualGRUCodec, quantize
from model.search import LEVELS, TOP, Band, LevelSearch, logarithm, position
from model.tiling import run_tiled
from model.weights.loading import DEFAULT_WEIGHTS, load_weights, model_id, released_weights

DEFAULT_TILE = 2048  # pixels a side; larger images are cut into tiles
GPU_TILE = 8192  # there what a tile computes beside its own costs more than its memory
_EVEN = 0.4  # of a symbol: less change than that within two positions is none


@dataclass(frozen=True)
class Goal:
    """When a photo has had enough; with nothing set, after all iterations at their highest level.

    Attributes:
        ms_ssim: the decoded image reaches this, by a thousandth more at most.
        code_bytes: the iterations' chunks together grow no larger than this.
        iterations: this many, at their highest level.
    """

    ms_ssim: float | None = None
    code_bytes: int | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Encoding:
    """The iterations of one photo, and whether the goal was met.

    Attributes:
        codes: a stream for each iteration.
        levels: of the gain in each, 0 to 255.
        ms_ssim: of the image decoded after each.
    """

    codes: tuple[bytes, ...]
    levels: tuple[int, ...]
    ms_ssim: tuple[float, ...]
    reached: bool


@dataclass
class _Job:
    """A photo on its way through the iterations."""

    pixels: NDArray[np.uint8]
    grey: bool
    goal: Goal
    codes: list[bytes] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    done: bool = False

    def bytes_left(self) -> int | None:
        """For the stream of the next iteration; None where nothing limits it."""
        if self.goal.code_bytes is None:
            return None
        return self.goal.code_bytes - sum(len(codes) + ITERATION_OVERHEAD for codes in (*self.codes, b""))

    def add(self, stream: bytes, level: int, quality: float) -> None:
        """Takes one iteration more, or ends before it where it would break the limit on bytes."""
        left = self.bytes_left()
        if left is not None and len(stream) > left:
            self.done = True
            return
        self.codes.append(stream)
        self.levels.append(level)
        self.ms_ssim.append(quality)
        enough = self.goal.ms_ssim is not None and quality >= self.goal.ms_ssim
        if enough or len(self.codes) == self.goal.iterations or (left is not None and level != TOP):
            self.done = True

    def encoding(self) -> Encoding:
        target = self.goal.ms_ssim
        reached = bool(self.codes) and (target is None or self.ms_ssim[-1] >= target)
        return Encoding(tuple(self.codes), tuple(self.levels), tuple(self.ms_ssim), reached)


@dataclass(frozen=True)
class _State:
    """What is known of a batch before an iteration; None and nothing before the first.

    Attributes:
        reconstruction: P[i-1], (N, 3, H, W).
        encoder, decoder: their hidden states (N, C, H/4, W/4).
        symbols: of the iteration before (N, C, H/8, W/8).
    """

    reconstruction: Tensor | None = None
    encoder: Tensor | None = None
    decoder: Tensor | None = None
    symbols: Tensor | None = None

    def select(self, photos: Tensor) -> "_State":
        """Of some photos of the batch, by index."""
        return _State(*(None if x is None else x[photos] for x in vars(self).values()))


@dataclass(frozen=True)
class _Batch:
    """Photos that are encoded together, one of each for each job."""

    jobs: list[_Job]
    images: Tensor  # (N, 3, H, W)
    state: _State

    def select(self, photos: list[int]) -> "_Batch":
        """Some of them, by index."""
        if photos == list(range(len(self.jobs))):
            return self
        which = to_device(torch.tensor(photos, dtype=torch.long), self.images.device)
        return _Batch([self.jobs[n] for n in photos], self.images[which], self.state.select(which))


class Codec:
    """A model on a device, ready to encode and decode.

    Args:
        model: in float32, as `load_weights` gives it.
        model_id: written into files. Files of other released models are decoded by those.
        device: where the networks run.
        dtype: of the networks; by default bfloat16 where the device computes in it natively. The
            context model is always exact, so streams decode alike whatever is chosen here.
    """

    def __init__(
        self,
        model: ResidualGRUCodec,
        model_id: str,
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model_id = model_id
        self._others: dict[str, Codec] = {}
        self.device = device
        self.dtype = dtype or native_dtype(device)
        self.model = model.to(device)
        for i in range(self.iterations):
            for network in model.stages(i):
                network.to(self.dtype)
        self.model.context.keep_quantized()

    @classmethod
    def load(
        cls, device: str = "cpu", dtype: torch.dtype | None = None, weights: Path = DEFAULT_WEIGHTS
    ) -> "Codec":
        """The codec with the weights of a file, by default those that come with this package."""
        return cls(load_weights(weights), model_id(weights), torch.device(device), dtype)

    @property
    def iterations(self) -> int:
        """The most iterations this model can make."""
        return self.model.config.iterations

    @property
    def default_tile(self) -> int:
        """Side in pixels of the tiles that suit the device."""
        return GPU_TILE if self.device.type == "cuda" else DEFAULT_TILE

    @standard_settings()
    @torch.inference_mode()
    def encode(
        self,
        photos: Sequence[NDArray[np.uint8]],
        goals: Sequence[Goal],
        grey: Sequence[bool],
        tile: int | None = None,
    ) -> list[Encoding]:
        """Encodes photos together; each leaves the batch when its own goal is met.

        All iterations of a photo but its last run at their highest level.

        Args:
            photos: (H, W, 3) pixels, of one size after rounding both sides up to multiples of 16.
            goals: when each has had enough.
            grey: whether each decodes to one channel.
            tile: side of the tiles that bound memory, `default_tile` if not given; it does not show in the
                result.

        Raises:
            ValueError: photos whose padded sizes differ.
        """
        if len(sizes := {padded_size(*pixels.shape[:2]) for pixels in photos}) != 1:
            raise ValueError(f"a batch of photos of one padded size is needed, not {sorted(sizes)}")
        jobs = [_Job(*job) for job in zip(photos, grey, goals, strict=True)]
        images = torch.cat([_to_padded_tensor(pixels, self.device) for pixels in photos])
        batch = _Batch(jobs, images, _State())
        for i in range(self.iterations):
            batch = self._encode_iteration(batch, i, tile or self.default_tile)
            if not batch.jobs:
                break
        return [job.encoding() for job in jobs]

    @standard_settings()
    @torch.inference_mode()
    def decode(self, file: RgcFile, tile: int | None = None) -> NDArray[np.uint8]:
        """Pixels (H, W, 3), or (H, W) of a grey photo, after all iterations that `file` has.

        Raises:
            RgcError: an unknown model's file, no whole iteration, or a stream that does not decode.
        """
        codec, state, tile = self._of(file), _State(), tile or self.default_tile
        for i, (symbols, level) in enumerate(codec._decoded(file)):
            reconstruction, decoder = codec._synthesize(symbols, level, state, i, tile)
            state = _State(reconstruction, None, decoder)
        return _to_pixels(reconstruction[0], file)

    @standard_settings()
    @torch.inference_mode()
    def symbols(self, file: RgcFile) -> list[Tensor]:
        """Of each iteration (1, symbols, H/8, W/8): the part of decoding that is exact.

        Raises:
            RgcError: see `decode`.
        """
        return [symbols for symbols, _ in self._of(file)._decoded(file)]

    def _decoded(self, file: RgcFile) -> Iterator[tuple[Tensor, Tensor]]:
        """Symbols and level (1,) of each iteration."""
        self._check(file)
        height, width = padded_size(file.height, file.width)
        shape = height // CODE_STRIDE, width // CODE_STRIDE
        previous: Tensor | None = None
        for i, stream in enumerate(file.codes):
            level = self._level_tensor([file.levels[i]])
            try:
                symbols = decode_iteration(self.model.context, i, previous, shape, level, stream)
            except ValueError as error:
                raise RgcError(f"iteration {i + 1}: {error}") from error
            previous = symbols
            yield symbols, level

    def _of(self, file: RgcFile) -> "Codec":
        """This codec, or one with the model that a file was encoded with."""
        if file.model_id == self.model_id:
            return self
        if file.model_id not in self._others:
            try:
                weights = load_weights(released_weights(file.model_id))
            except ValueError as error:
                raise RgcError(f"it was encoded with another model: {error}") from error
            self._others[file.model_id] = Codec(weights, file.model_id, self.device, self.dtype)
        return self._others[file.model_id]

    def _check(self, file: RgcFile) -> None:
        if not file.codes:
            raise RgcError("it was cut off before its first iteration was complete: nothing to decode")
        if len(file.codes) > self.iterations:
            known = f"model {self.model_id} has {self.iterations}"
            raise RgcError(f"it has {len(file.codes)} iterations; {known}")

    def _encode_iteration(self, batch: _Batch, iteration: int, tile: int) -> "_Batch":
        """Adds an iteration to each job; returns those that go on."""
        latents, encoder = self._analyse(batch.images, batch.state, iteration, tile)
        levels, qualities, known = self._choose_levels(batch, latents, iteration, tile)
        at = self._level_tensor(levels)
        symbols = self._quantized(latents, iteration, at)
        streams = self._streams(batch, symbols, at, iteration, known)
        for n, quality in qualities.items():
            batch.jobs[n].add(streams[n], levels[n], quality)
        left = [n for n, job in enumerate(batch.jobs) if not job.done]
        if not left:
            return batch.select([])
        # Photos that their trials have finished need no reconstruction any more.
        part, (symbols, at, encoder) = batch.select(left), _rows(left, symbols, at, encoder)
        reconstruction, decoder = self._synthesize(symbols, at, part.state, iteration, tile)
        unmeasured = [m for m, n in enumerate(left) if n not in qualities]
        measured = _qualities(reconstruction, part, unmeasured)
        for m, quality in zip(unmeasured, measured, strict=True):
            part.jobs[m].add(streams[left[m]], levels[left[m]], quality)
        state = _State(reconstruction, encoder, decoder, symbols)
        going_on = [n for n, job in enumerate(part.jobs) if not job.done]
        return replace(part, state=state).select(going_on)

    def _streams(
        self, batch: _Batch, symbols: Tensor, level: Tensor, iteration: int, known: dict[int, bytes]
    ) -> dict[int, bytes]:
        """Of each photo, by index; `known` has some of them."""
        rest = [n for n in range(len(batch.jobs)) if n not in known]
        if not rest:
            return known
        previous = batch.select(rest).state.symbols
        symbols, level = _rows(rest, symbols, level)
        streams = encode_iteration(self.model.context, iteration, previous, symbols, level)
        return known | dict(zip(rest, streams, strict=True))

    def _choose_levels(
        self, batch: _Batch, latents: Tensor, iteration: int, tile: int
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
            part, at = batch.select(which), self._level_tensor(trial)
            symbols = self._quantized(_rows(which, latents)[0], iteration, at)
            reconstructions, _ = self._synthesize(symbols, at, part.state, iteration, tile)
            qualities = _qualities(reconstructions, part, range(len(which)))
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
                levels[n], streams[n] = self._level_that_fits(latents[n : n + 1], state, iteration, left)
        return levels, {n: measured[n, levels[n]] for n in targets if (n, levels[n]) in measured}, streams

    def _level_that_fits(
        self, latents: Tensor, state: _State, iteration: int, limit: int
    ) -> tuple[int, bytes]:
        """A level at which one photo's stream has `limit` bytes or little less, and that stream.

        The lowest one if none has so few; the one that another iteration may follow if all have.
        """
        search = LevelSearch(Band.of_bytes(limit, latents[0, 0].numel() * CODE_STRIDE**2))
        streams: dict[int, bytes] = {}

        def stream(level: int) -> bytes:
            if level not in streams:
                at = self._level_tensor([level])
                symbols = self._quantized(latents, iteration, at)
                (streams[level],) = encode_iteration(
                    self.model.context, iteration, state.symbols, symbols, at
                )
            return streams[level]

        while not search.done:
            level = search.next_level
            search.add(level, math.log(max(len(stream(level)), 1)))
        level = TOP if search.answer == LEVELS - 1 else search.answer or 0
        return level, stream(level)

    def _level_tensor(self, levels: Sequence[int]) -> Tensor:
        return to_device(torch.from_numpy(position(levels)), self.device)

    def _quantized(self, latents: Tensor, iteration: int, level: Tensor) -> Tensor:
        scaled = self.model.scale(latents, level, iteration)
        if iteration == 0:
            very_first = scaled[:, : self.model.config.first_groups[0]]
            very_first.copy_(_evened(very_first))
        return quantize(scaled)

    def _analyse(self, images: Tensor, state: _State, iteration: int, tile: int) -> tuple[Tensor, Tensor]:
        """Latents of R[i-1], and the encoder's new state."""

        def network(*inputs: Tensor | None) -> Sequence[Tensor]:
            assert inputs[0] is not None
            return self.model.encode(inputs[0], inputs[1], inputs[2], iteration)

        reach = self.model.reach(iteration)[0]
        latents, hidden = run_tiled(network, [images, state.reconstruction, state.encoder], tile, reach)
        return latents, hidden

    def _synthesize(
        self, symbols: Tensor, level: Tensor, state: _State, iteration: int, tile: int
    ) -> tuple[Tensor, Tensor]:
        """P[i], and the decoder's new state."""

        def network(*inputs: Tensor | None) -> Sequence[Tensor]:
            assert inputs[0] is not None
            return self.model.decode(inputs[0], level, inputs[1], inputs[2], iteration)

        reach = self.model.reach(iteration)[1]
        reconstruction, hidden = run_tiled(
            network, [symbols, state.reconstruction, state.decoder], tile, reach, first_stride=CODE_STRIDE
        )
        return reconstruction, hidden


def _evened(scaled: Tensor) -> Tensor:
    """Scaled latents (N, C, h, w), averaged where they hardly change: of one colour come equal symbols.

    The networks' offsets differ a little between the four positions of 16x16 pixels. Where a latent lies
    between two integers, symbols would alternate, at many times the cost. Hardly a photo is so even.
    """
    n, channels, height, width = scaled.shape
    planes = scaled.reshape(n * channels, 1, height, width)
    around = F.pad(planes, (2, 2, 2, 2), mode="replicate")
    change = F.max_pool2d(around, 5, 1) + F.max_pool2d(-around, 5, 1)
    mean = F.avg_pool2d(F.avg_pool2d(around, 4, 1), 2, 1)  # all four positions count alike
    return torch.where(change < _EVEN, mean, planes).view_as(scaled)


def _rows(photos: Sequence[int], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Of some photos of a batch, by index."""
    if list(photos) == list(range(len(tensors[0]))):
        return tensors
    which = to_device(torch.tensor(photos, dtype=torch.long), tensors[0].device)
    return tuple(x[which] for x in tensors)


def _to_padded_tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(1, 3, H, W) in 0 to 1, the outermost pixels repeated up to the padded size."""
    height, width = pixels.shape[:2]
    padded_height, padded_width = padded_size(height, width)
    there = to_device(torch.from_numpy(np.require(pixels, requirements=["C", "W"])), device)
    image = there.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.contiguous_format) / 255
    right, bottom = padded_width - width - MARGIN, padded_height - height - MARGIN
    return F.pad(image, (MARGIN, right, MARGIN, bottom), mode="replicate")


def _inside(padded: Tensor, height: int, width: int) -> Tensor:
    """The photo's own pixels of a padded image (C, H, W)."""
    return padded[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]


def _to_8_bits(reconstruction: Tensor, height: int, width: int, grey: bool) -> Tensor:
    """What a reconstruction (3, H, W) decodes to, 0 to 255: (3, height, width), or (1, ...) if grey."""
    image = _inside(reconstruction, height, width)
    if grey:
        image = image.mean(dim=0, keepdim=True)
    return (image * 255).round_().clamp_(0, 255)


def _to_pixels(reconstruction: Tensor, file: RgcFile) -> NDArray[np.uint8]:
    """(H, W, 3) pixels of one reconstruction (3, H, W), or (H, W) if grey."""
    planes = _to_8_bits(reconstruction, file.height, file.width, file.grey).to(torch.uint8)
    pixels = planes[0] if file.grey else planes.permute(1, 2, 0)
    return to_host(pixels.contiguous()).numpy()


def _qualities(reconstructions: Tensor, batch: _Batch, which: Sequence[int]) -> list[float]:
    """Of some photos: MS-SSIM of what a reconstruction decodes to. The host waits once for all."""
    if not which:
        return []
    qualities = []
    for n in which:
        job = batch.jobs[n]
        height, width = job.pixels.shape[:2]
        decoded = _to_8_bits(reconstructions[n], height, width, job.grey)
        original = _inside(batch.images[n], height, width) * 255
        qualities.append(ms_ssim(decoded.expand_as(original)[None], original[None]))
    return torch.cat(qualities).clamp(max=1.0).tolist()
