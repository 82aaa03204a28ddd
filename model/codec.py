"""Photos to entropy-coded iterations and back, in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.entropy import decode_iteration, encode_iteration
from model.format.container import ITERATION_OVERHEAD, RgcError, RgcFile
from model.ms_ssim import ms_ssim
from model.network import CODE_STRIDE, STRIDE, ResidualGRUCodec, State
from model.tiling import run_tiled
from model.weights.loading import DEFAULT_WEIGHTS, load_weights, model_id

DEFAULT_TILE = 1024  # pixels a side; larger images are cut into tiles


@dataclass(frozen=True)
class Goal:
    """When a photo has had enough iterations; with nothing set, after all of them.

    Attributes:
        ms_ssim: stop at the first iteration whose decoded image reaches this.
        code_bytes: stop before the iterations' chunks together grow beyond this.
        iterations: stop after this many.
    """

    ms_ssim: float | None = None
    code_bytes: int | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Encoding:
    """The iterations of one photo: streams, MS-SSIM after each, and whether the goal was met."""

    codes: tuple[bytes, ...]
    ms_ssim: tuple[float, ...]
    reached: bool


@dataclass
class _Job:
    """A photo on its way through the iterations."""

    pixels: NDArray[np.uint8]
    grey: bool
    goal: Goal
    codes: list[bytes] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    reached: bool = False
    done: bool = False

    def add(self, stream: bytes, quality: float) -> None:
        """Takes one iteration more, or ends before it where it would break the limit on bytes."""
        goal = self.goal
        chunks = [len(codes) + ITERATION_OVERHEAD for codes in (*self.codes, stream)]
        if goal.code_bytes is not None and sum(chunks) > goal.code_bytes:
            self.done, self.reached = True, bool(self.codes)
            return
        self.codes.append(stream)
        self.ms_ssim.append(quality)
        enough = goal.ms_ssim is not None and quality >= goal.ms_ssim
        if enough or len(self.codes) == goal.iterations:
            self.done, self.reached = True, True

    def encoding(self) -> Encoding:
        # With no goal but a limit on bytes, all iterations fitting is the best outcome.
        reached = self.reached or (self.goal.ms_ssim is None and bool(self.codes))
        return Encoding(tuple(self.codes), tuple(self.ms_ssim), reached)


class Codec:
    """A model on a device, ready to encode and decode.

    Args:
        model: in float32, as `load_weights` gives it.
        model_id: written into files; only files of the same model are decoded.
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
        self.device = device
        self.dtype = dtype or native_dtype(device)
        self.model = model.to(device)
        for stage in (model.coarse, model.fine):
            stage.encoder.to(self.dtype)
            stage.decoder.to(self.dtype)

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

    @torch.inference_mode()
    def encode(
        self,
        photos: Sequence[NDArray[np.uint8]],
        goals: Sequence[Goal],
        grey: Sequence[bool],
        tile: int = DEFAULT_TILE,
    ) -> list[Encoding]:
        """Encodes photos together; each leaves the batch when its own goal is met.

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
        active = list(jobs)
        images = torch.cat([_to_padded_tensor(pixels) for pixels in photos]).to(self.device)
        reconstructions = self.model.first_reconstruction(images)
        codes = self._no_codes(images)
        for i in range(self.iterations):
            stage = self.model.stage(i)
            if i == stage.first:
                encoder_state, decoder_state = stage.encoder_state(), stage.decoder_state()
            bits, encoder_state = self._encode_iteration(images, reconstructions, encoder_state, i, tile)
            codes = torch.cat([codes, bits], dim=1)
            streams = encode_iteration(self.model.context, codes, i)
            reconstructions, decoder_state = self._decode_iteration(
                bits, reconstructions, decoder_state, i, tile
            )
            for job, stream, reconstruction, image in zip(
                active, streams, reconstructions, images, strict=True
            ):
                job.add(stream, _quality(reconstruction, image, job))
            staying = [index for index, job in enumerate(active) if not job.done]
            if not staying:
                break
            if len(staying) < len(active):
                active = [active[index] for index in staying]
                kept = torch.tensor(staying, device=self.device)
                images, reconstructions, codes = images[kept], reconstructions[kept], codes[kept]
                encoder_state, decoder_state = encoder_state.select(kept), decoder_state.select(kept)
        return [job.encoding() for job in jobs]

    def decode(self, file: RgcFile, tile: int = DEFAULT_TILE) -> NDArray[np.uint8]:
        """Pixels (H, W, 3), or (H, W) of a grey photo, after all iterations that `file` has.

        Raises:
            RgcError: another model's file, no whole iteration, or a stream that does not decode.
        """
        for reconstruction in self._reconstructions(file, tile):  # noqa: B007 - the last one counts
            pass
        return _to_pixels(reconstruction[0], file)

    def decode_each(self, file: RgcFile, tile: int = DEFAULT_TILE) -> Iterator[NDArray[np.uint8]]:
        """What `decode` gives after one iteration, after two, and so on."""
        for reconstruction in self._reconstructions(file, tile):
            yield _to_pixels(reconstruction[0], file)

    @torch.inference_mode()
    def _reconstructions(self, file: RgcFile, tile: int) -> Iterator[Tensor]:
        """P[1], P[2], ... (1, 3, H, W), padded."""
        self._check(file)
        shape = (1, 3, *padded_size(file.height, file.width))
        reconstruction = self.model.first_reconstruction(torch.empty(shape, device=self.device))
        codes = self._no_codes(reconstruction)
        for i, stream in enumerate(file.codes):
            stage = self.model.stage(i)
            if i == stage.first:
                state = stage.decoder_state()
            try:
                bits = decode_iteration(self.model.context, codes, i, stream)
            except ValueError as error:
                raise RgcError(f"iteration {i + 1}: {error}") from error
            codes = torch.cat([codes, bits], dim=1)
            reconstruction, state = self._decode_iteration(bits, reconstruction, state, i, tile)
            yield reconstruction

    def _check(self, file: RgcFile) -> None:
        if file.model_id != self.model_id:
            raise RgcError(f"it was encoded with model {file.model_id}; this is {self.model_id}")
        if not file.codes:
            raise RgcError("it was cut off before its first iteration was complete: nothing to decode")
        if len(file.codes) > self.iterations:
            known = f"model {self.model_id} has {self.iterations}"
            raise RgcError(f"it has {len(file.codes)} iterations; {known}")

    def _no_codes(self, images: Tensor) -> Tensor:
        photos, _, height, width = images.shape
        shape = (photos, 0, height // CODE_STRIDE, width // CODE_STRIDE)
        return torch.empty(shape, dtype=torch.int8, device=self.device)

    def _encode_iteration(
        self, images: Tensor, reconstructions: Tensor, state: State, iteration: int, tile: int
    ) -> tuple[Tensor, State]:
        stage = self.model.stage(iteration)

        def network(images: Tensor, reconstructions: Tensor, *hidden: Tensor | None) -> list[Tensor]:
            logits, new = stage.encode(images, reconstructions, State(hidden), iteration)
            return [(logits >= 0).to(torch.int8) * 2 - 1, *_all(new)]

        inputs = [images, reconstructions, *state.hidden]
        bits, *hidden = run_tiled(network, inputs, tile, stage.encoder.REACH)
        return bits, State(tuple(hidden))

    def _decode_iteration(
        self, bits: Tensor, reconstructions: Tensor, state: State, iteration: int, tile: int
    ) -> tuple[Tensor, State]:
        stage = self.model.stage(iteration)

        def network(reconstructions: Tensor, bits: Tensor, *hidden: Tensor | None) -> list[Tensor]:
            new, new_state = stage.decode(bits, reconstructions, State(hidden), iteration)
            return [new, *_all(new_state)]

        inputs = [reconstructions, bits, *state.hidden]
        reconstructions, *hidden = run_tiled(network, inputs, tile, stage.decoder.REACH)
        return reconstructions, State(tuple(hidden))


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Both sides rounded up to multiples of 16, what the networks work on."""
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it faster than in float32, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        # Intel's AVX-512 has the instructions, but they take twice as long as float32's; its AMX does not.
        fast_avx512 = capabilities.get("avx512_bf16", False) and "Intel" not in capabilities["cpu_name"]
        native = fast_avx512 or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def _to_padded_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) in 0 to 1, its last row and column repeated up to the padded size."""
    height, width = pixels.shape[:2]
    padded_height, padded_width = padded_size(height, width)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    image = torch.from_numpy(planes)[None].float() / 255
    if (padded_height, padded_width) == (height, width):
        return image
    return F.pad(image, (0, padded_width - width, 0, padded_height - height), mode="replicate")


def _to_8_bits(reconstruction: Tensor, height: int, width: int, grey: bool) -> Tensor:
    """What a reconstruction (3, H, W) decodes to, 0 to 255: (3, height, width), or (1, ...) if grey."""
    image = reconstruction[:, :height, :width]
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
    original = image[:, :height, :width] * 255
    return min(ms_ssim(decoded.expand_as(original)[None], original[None]).item(), 1.0)


def _all(state: State) -> list[Tensor]:
    return [hidden for hidden in state.hidden if hidden is not None]
