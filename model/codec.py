"""Photos to entropy-coded iterations and back, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import SupportsBytes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches.batch import Batch, Encoding, Goal, Job, State
from model.batches.levels import choose_levels
from model.batches.stages import Stages
from model.batches.tensors import to_pixels
from model.canvas import groups, may_share
from model.coding.entropy import decode_iteration, predict_iteration
from model.coding.steps import CODE_STRIDE
from model.devices import native_dtype, standard_settings
from model.format.container import RgcError, RgcFile
from model.format.limits import padded_size
from model.network import ResidualGRUCodec
from model.weights.loading import DEFAULT_WEIGHTS, load_weights, model_id, released_weights

DEFAULT_TILE = 2048  # pixels a side; larger images are cut into tiles
GPU_TILE = 8192  # there what a tile computes beside its own costs more than its memory


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
        self._stages = Stages(self.model, device)

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

    def batches(self, sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Which photos to encode together, by index: those of one padded size; on a GPU, of similar sizes.

        A GPU is idle while small photos go one by one. A CPU only computes more then.

        Args:
            sizes: padded heights and widths, in pixels.
        """
        return groups(sizes, mixed=self.device.type == "cuda")

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

        All iterations of a photo but its last run at their highest level. The last one's stream is coded
        when it is first asked for.

        Args:
            photos: (H, W, 3) pixels, of sizes that `may_share` a batch after padding.
            goals: when each has had enough.
            grey: whether each decodes to one channel.
            tile: side of the tiles that bound memory, `default_tile` if not given; it does not show in the
                result.

        Raises:
            ValueError: photos whose sizes may not.
        """
        jobs = [Job(*job) for job in zip(photos, grey, goals, strict=True)]
        if not may_share(sizes := [job.size for job in jobs]):
            raise ValueError(f"photos of sizes as different as {sorted(set(sizes))} are no batch")
        batch = Batch.of(jobs, self.device)
        for i in range(self.iterations):
            if not batch.jobs:
                break
            batch = self._encode_iteration(batch, i, tile or self.default_tile)
        return [job.encoding() for job in jobs]

    @standard_settings()
    @torch.inference_mode()
    def decode(self, file: RgcFile, tile: int | None = None) -> NDArray[np.uint8]:
        """Pixels (H, W, 3), or (H, W) of a grey photo, after all iterations that `file` has.

        Raises:
            RgcError: an unknown model's file, no whole iteration, or a stream that does not decode.
        """
        codec, state, tile = self._of(file), State(), tile or self.default_tile
        for i, (symbols, level) in enumerate(codec._decoded(file)):
            reconstruction, decoder = codec._stages.synthesize(symbols, level, state, i, tile)
            state = State(reconstruction, None, decoder)
        return to_pixels(reconstruction[0], file.height, file.width, file.grey)

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
            level = self._stages.level_tensor([file.levels[i]])
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

    def _encode_iteration(self, batch: Batch, iteration: int, tile: int) -> "Batch":
        """Adds an iteration to each job; returns those that go on."""
        latents, encoder = self._stages.analyse(batch.images, batch.state, iteration, tile)
        levels, qualities, known = choose_levels(self._stages, batch, latents, iteration, tile)
        at = self._stages.level_tensor(levels)
        symbols = self._stages.quantized(latents, iteration, at, batch.state.extents)
        streams = self._streams(batch, symbols, at, iteration, known)
        for n, quality in qualities.items():
            batch.jobs[n].add(streams[n], levels[n], quality)
        left = [n for n, job in enumerate(batch.jobs) if not job.done]
        if not left:
            return batch.select([])
        # Photos that their trials have finished need no reconstruction any more.
        part, (symbols, at, encoder) = batch.select(left), batch.rows(left, symbols, at, encoder)
        reconstruction, decoder = self._stages.synthesize(symbols, at, part.state, iteration, tile)
        unmeasured = [m for m, n in enumerate(left) if n not in qualities]
        measured = part.qualities(reconstruction, unmeasured)
        for m, quality in zip(unmeasured, measured, strict=True):
            part.jobs[m].add(streams[left[m]], levels[left[m]], quality)
        state = State(reconstruction, encoder, decoder, symbols, part.state.extents)
        going_on = [n for n, job in enumerate(part.jobs) if not job.done]
        return replace(part, state=state).select(going_on)

    def _streams(
        self, batch: Batch, symbols: Tensor, level: Tensor, iteration: int, known: Mapping[int, bytes]
    ) -> Mapping[int, SupportsBytes]:
        """Of each photo, by index; `known` has some of them."""
        rest = [n for n in range(len(batch.jobs)) if n not in known]
        if not rest:
            return known
        state = batch.select(rest).state
        symbols, level = batch.rows(rest, symbols, level)
        streams = predict_iteration(
            self.model.context, iteration, state.symbols, symbols, level, state.extents
        )
        return {**known, **dict(zip(rest, streams, strict=True))}
