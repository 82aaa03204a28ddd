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

from model.devices import native_dtype, standard_settings
from model.entropy import decode_iteration, encode_iteration
from model.format.container import ITERATION_OVERHEAD, RgcError, RgcFile
from model.format.limits import MARGIN, padded_size
from model.ms_ssim import ms_ssim
from model.network import CODE_STRIDE, ResidualGRUCodec, quantize
from model.search import LEVELS, TOP, Band, LevelSearch, logarithm, position
from model.tiling import run_tiled
from model.weights.loading import DEFAULT_WEIGHTS, load_weights, model_id, released_weights

DEFAULT_TILE = 2048  # pixels a side; larger images are cut into tiles


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
        symbols: of all iterations so far (N, C, H/8, W/8).
    """

    reconstruction: Tensor | None = None
    encoder: Tensor | None = None
    decoder: Tensor | None = None
    symbols: Tensor | None = None

    def followed_by(
        self, reconstruction: Tensor, encoder: Tensor | None, decoder: Tensor, symbols: Tensor
    ) -> "_State":
        """After an iteration."""
        known = symbols if self.symbols is None else torch.cat([self.symbols, symbols], dim=1)
        return _State(reconstruction, encoder, decoder, known)

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
        which = torch.tensor(photos, dtype=torch.long, device=self.images.device)
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

    @standard_settings()
    @torch.inference_mode()
    def encode(
        self,
        photos: Sequence[NDArray[np.uint8]],
        goals: Sequence[Goal],
        grey: Sequence[bool],
        tile: int = DEFAULT_TILE,
    ) -> list[Encoding]:
        """Encodes photos together; each leaves the batch when its own goal is met.

        All iterations of a photo but its last run at their highest level.

        Args:
            photos: (H, W, 3) pixels, of one size after rounding both sides up to multiples of 16.
            goals: when each has had enough.
            grey: whether each decodes to one channel.
            tile: side of the tiles that bound memory; it does not show in the result.

        Raises:
            ValueError: photos whose padded sizes differ.
        """
        if len(sizes := {padded_size(*pixels.shape[:2]) for pixels in photos}) != 1:
            raise ValueError(f"a batch of photos of one padded size is needed, not {sorted(sizes)}")
        jobs = [_Job(*job) for job in zip(photos, grey, goals, strict=True)]
        images = torch.cat([_to_padded_tensor(pixels) for pixels in photos]).to(self.device)
        batch = _Batch(jobs, images, _State())
        for i in range(self.iterations):
            batch = self._encode_iteration(batch, i, tile)
            if not batch.jobs:
                break
        return [job.encoding() for job in jobs]

    @standard_settings()
    @torch.inference_mode()
    def decode(self, file: RgcFile, tile: int = DEFAULT_TILE) -> NDArray[np.uint8]:
        """Pixels (H, W, 3), or (H, W) of a grey photo, after all iterations that `file` has.

        Raises:
            RgcError: an unknown model's file, no whole iteration, or a stream that does not decode.
        """
        codec, state = self._of(file), _State()
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
        earlier: Tensor | None = None
        for i, stream in enumerate(file.codes):
            level = self._level_tensor([file.levels[i]])
            try:
                symbols = decode_iteration(self.model.context, i, earlier, shape, level, stream)
            except ValueError as error:
                raise RgcError(f"iteration {i + 1}: {error}") from error
            earlier = symbols if earlier is None else torch.cat([earlier, symbols], dim=1)
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
        levels, qualities = self._choose_levels(batch, latents, iteration, tile)
        at = self._level_tensor(levels)
        symbols = self._quantized(latents, iteration, at)
        streams = encode_iteration(self.model.context, iteration, batch.state.symbols, symbols, at)
        for n, quality in qualities.items():
            batch.jobs[n].add(streams[n], levels[n], quality)
        left = [n for n, job in enumerate(batch.jobs) if not job.done]
        if not left:
            return batch.select([])
        # Photos that their trials have finished need no reconstruction any more.
        kept = torch.tensor(left, device=self.device)
        part = batch.select(left)
        reconstruction, decoder = self._synthesize(symbols[kept], at[kept], part.state, iteration, tile)
        for n, job, image, original in zip(left, part.jobs, reconstruction, part.images, strict=True):
            if n not in qualities:
                job.add(streams[n], levels[n], _quality(image, original, job))
        state = part.state.followed_by(reconstruction, encoder[kept], decoder, symbols[kept])
        going_on = [n for n, job in enumerate(part.jobs) if not job.done]
        return replace(part, state=state).select(going_on)

    def _choose_levels(
        self, batch: _Batch, latents: Tensor, iteration: int, tile: int
    ) -> tuple[list[int], dict[int, float]]:
        """A level for each photo: one that meets its goal, or `TOP` where more iterations may.

        Of photos with a target also the MS-SSIM at their level.
        """
        levels = [TOP] * len(batch.jobs)
        targets = {n: job.goal.ms_ssim for n, job in enumerate(batch.jobs) if job.goal.ms_ssim is not None}
        searches = {n: LevelSearch(Band.of_ms_ssim(target)) for n, target in targets.items()}
        measured: dict[tuple[int, int], float] = {}
        while searches:
            which = list(searches)
            trial = [search.next_level for search in searches.values()]
            part, at = batch.select(which), self._level_tensor(trial)
            symbols = self._quantized(latents[torch.tensor(which, device=self.device)], iteration, at)
            reconstructions, _ = self._synthesize(symbols, at, part.state, iteration, tile)
            for m, (n, level) in enumerate(zip(which, trial, strict=True)):
                measured[n, level] = _quality(reconstructions[m], part.images[m], part.jobs[m])
                searches[n].add(level, logarithm(measured[n, level]))
                if searches[n].done:
                    answer = searches.pop(n).answer
                    levels[n] = TOP if answer is None else answer
        for n, job in enumerate(batch.jobs):
            if (left := job.bytes_left()) is not None and left > 0:
                state = batch.select([n]).state
                levels[n] = self._level_that_fits(latents[n : n + 1], state, iteration, left)
        return levels, {n: measured[n, levels[n]] for n in targets if (n, levels[n]) in measured}

    def _level_that_fits(self, latents: Tensor, state: _State, iteration: int, limit: int) -> int:
        """A level at which one photo's stream has `limit` bytes or little less.

        The lowest one if none has so few; the one that another iteration may follow if all have.
        """
        search = LevelSearch(Band.of_bytes(limit, latents[0, 0].numel() * CODE_STRIDE**2))
        while not search.done:
            level = search.next_level
            at = self._level_tensor([level])
            symbols = self._quantized(latents, iteration, at)
            (stream,) = encode_iteration(self.model.context, iteration, state.symbols, symbols, at)
            search.add(level, math.log(max(len(stream), 1)))
        return TOP if search.answer == LEVELS - 1 else search.answer or 0

    def _level_tensor(self, levels: Sequence[int]) -> Tensor:
        return torch.from_numpy(position(levels)).to(self.device)

    def _quantized(self, latents: Tensor, iteration: int, level: Tensor) -> Tensor:
        return quantize(latents.float() * self.model.gain(iteration, level))

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


def _to_padded_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) in 0 to 1, the outermost pixels repeated up to the padded size."""
    height, width = pixels.shape[:2]
    padded_height, padded_width = padded_size(height, width)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    image = torch.from_numpy(planes)[None].float() / 255
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
    pixels: NDArray[np.uint8] = planes.cpu().numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(pixels[:, :, 0] if file.grey else pixels)


def _quality(reconstruction: Tensor, image: Tensor, job: _Job) -> float:
    """MS-SSIM of what a reconstruction (3, H, W) decodes to, against the padded image (3, H, W)."""
    height, width = job.pixels.shape[:2]
    decoded = _to_8_bits(reconstruction, height, width, job.grey)
    original = _inside(image, height, width) * 255
    return min(ms_ssim(decoded.expand_as(original)[None], original[None]).item(), 1.0)
