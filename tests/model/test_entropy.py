import itertools

import numpy as np
import pytest
import torch

from model.entropy import decode_iteration, encode_iteration
from tests.conftest import TINY, tiny_model

ENDS = list(itertools.accumulate(TINY.bits))


def random_codes(photos: int = 2, height: int = 10, width: int = 14) -> torch.Tensor:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (photos, sum(TINY.bits), height, width))
    return torch.from_numpy(bits.astype(np.int8) * 2 - 1)


def test_decodes_what_was_encoded_whatever_the_batch_and_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    context, codes = tiny_model().context, random_codes()
    for iteration, (bits, end) in enumerate(zip(TINY.bits, ENDS, strict=True)):
        streams = encode_iteration(context, codes[:, :end], iteration)
        monkeypatch.setattr("model.entropy._POSITIONS_AT_ONCE", 30)
        for photo, stream in enumerate(streams):
            assert encode_iteration(context, codes[photo : photo + 1, :end], iteration) == [stream]
            earlier = codes[photo : photo + 1, : end - bits]
            decoded = decode_iteration(context, earlier, iteration, stream)
            assert torch.equal(decoded, codes[photo : photo + 1, end - bits : end])
        monkeypatch.undo()


def test_likely_bits_are_cheap() -> None:
    """The stream's length is what the model's cross-entropy says."""
    context, codes = tiny_model().context, random_codes(photos=1, height=64, width=64)
    for iteration, end in enumerate(ENDS):
        (stream,) = encode_iteration(context, codes[:, :end], iteration)
        bits = context.cross_entropy(codes[:, :end].float(), iteration).item()
        assert len(stream) * 8 == pytest.approx(bits, rel=0.005, abs=64)


@pytest.mark.parametrize("stream", [b"abc", b"\0" * 4000])
def test_refuses_streams_that_no_encoder_wrote(stream: bytes) -> None:
    context, codes = tiny_model().context, random_codes(photos=1)
    with pytest.raises(ValueError, match="stream of"):
        decode_iteration(context, codes[:, :0], 0, stream)
