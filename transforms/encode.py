"""Stage 4: the codec inside RunInference."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from apache_beam.ml.inference.base import ModelHandler

from model.codec import Codec
from model.files import EncodedPhoto, choose_device, encode_photos
from model.format.limits import padded_size
from model.settings import Settings
from transforms.attempts import Attempts
from transforms.counters import RETRIED
from transforms.elements import Encoded, LoadedPhoto

_LOG = logging.getLogger(__name__)
_IN_A_WORKERS_ENVIRONMENT = "CONTROL_API_SERVICE_DESCRIPTOR"  # of a process that Beam starts to be a worker
_SECONDS_TO_LOG = 5  # lines go to the runner in a thread


class CodecHandler(ModelHandler[Any, Any, Codec]):
    """Loads the codec once a worker process. Batches are bounded by pixels.

    Args:
        device: "auto", "cpu" or "cuda", resolved where the model is loaded.
        max_batch_pixels: of a batch, unless one photo alone has more.
        pixels_of: the pixels of an element.
        threads: for torch in each worker process; None for torch's own choice.
    """

    def __init__(
        self, device: str, max_batch_pixels: int, pixels_of: Callable[[Any], int], threads: int | None
    ) -> None:
        super().__init__(
            min_batch_size=max_batch_pixels, max_batch_size=max_batch_pixels, element_size_fn=pixels_of
        )
        self._device = device
        self._pixels_of = pixels_of
        self._threads = threads

    def load_model(self) -> Codec:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        device = choose_device(self._device)
        if self._device == "auto" and device == "cpu":
            _LOG.warning("no GPU on this worker: the codec runs on its CPU")
        return Codec.load(device)

    def get_metrics_namespace(self) -> str:
        return "rgc"

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """A rough figure for Beam's metrics. By default Beam would pickle all pixels for it."""
        return 3 * sum(map(self._pixels_of, batch))


class EncodeHandler(CodecHandler):
    """`LoadedPhoto`s to `Encoded`, those together that suit the device.

    Args:
        attempts: where the runner tries again what has ended a process.
    """

    def __init__(
        self,
        settings: Settings,
        device: str,
        max_batch_pixels: int,
        threads: int | None,
        attempts: Attempts | None = None,
    ) -> None:
        super().__init__(device, max_batch_pixels, lambda loaded: loaded.width * loaded.height, threads)
        self._settings = settings
        self._attempts = attempts

    def run_inference(
        self, batch: Sequence[LoadedPhoto], model: Codec, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Encoded]:
        sizes = [padded_size(loaded.height, loaded.width) for loaded in batch]
        for together in model.batches(sizes):
            group = [batch[n] for n in together]
            if self._attempts is None:
                yield from self._encode(model, group)
            else:
                yield from self._attempts.encode(group, partial(self._encode, model), _failed)

    def _encode(self, codec: Codec, group: list[LoadedPhoto]) -> list[Encoded]:
        started = time.monotonic()
        try:
            results = encode_photos(
                codec,
                [loaded.decoded for loaded in group],
                [self._settings] * len(group),
                [loaded.source_record(self._settings) for loaded in group],
            )
        except Exception as error:  # one bad photo never stops a run
            end_if_broken(codec)
            if len(group) > 1:
                RETRIED.inc()
                return [encoded for loaded in group for encoded in self._encode(codec, [loaded])]
            _LOG.exception("%s: encoding failed", group[0].photo.uri)
            seconds = time.monotonic() - started
            return [_failed(group[0], f"encoding failed: {type(error).__name__}: {error}", seconds)]
        share = (time.monotonic() - started) / len(group)
        return [_encoded(loaded, result, "", share) for loaded, result in zip(group, results, strict=True)]


def end_if_broken(codec: Codec) -> None:
    """After an error: tests whether the device still works. If not, ends the process of a worker.

    After some errors a GPU fails for as long as its process lives. There every other photo would be `failed`,
    or every further try of the bundle would fail, and Dataflow gives up a job at the fourth. If a process
    ends with an error, Beam's boot starts another. A worker that is a thread in rgc's own process cannot end
    alone: its bundle fails.

    Raises:
        RuntimeError: the device does not work any more, and the process is not a worker's.
    """
    try:
        torch.ones(1, device=codec.device).add(1).item()
    except RuntimeError:
        if _IN_A_WORKERS_ENVIRONMENT not in os.environ:
            raise
        _LOG.critical("%s does not work any more: this process ends", codec.device, exc_info=True)
        time.sleep(_SECONDS_TO_LOG)
        os._exit(1)  # a regular end may wait for the device


def _failed(loaded: LoadedPhoto, error: str, seconds: float = 0.0) -> Encoded:
    return _encoded(loaded, None, error, seconds)


def _encoded(loaded: LoadedPhoto, result: EncodedPhoto | None, error: str, seconds: float) -> Encoded:
    return Encoded(
        photo=loaded.photo,
        sha256=loaded.sha256,
        format=loaded.decoded.format,
        width=loaded.width,
        height=loaded.height,
        result=result,
        error=error,
        seconds=seconds,
    )
