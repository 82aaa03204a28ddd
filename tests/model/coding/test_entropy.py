import numpy as np
import pytest
import torch

from model.coding import entropy
from model.coding.context import ContextModel
from model.coding.entropy import decode_iteration, encode_iteration
from model.coding.limits import LARGEST_MEAN, LARGEST_SYMBOL
from tests.conftest import TINY, tiny_model

LEVEL = torch.tensor([100 / 128])


def random_codes(
    iteration: int, photos: int = 1, height: int = 10, width: int = 14, spread: float = 1.5
) -> torch.Tensor:
    random = np.random.default_rng(iteration)
    values = random.normal(0, spread, (photos, TINY.symbols[iteration], height, width)).round()
    return torch.from_numpy(values.astype(np.float32))


def before(iteration: int, **sizes: int) -> torch.Tensor | None:
    return random_codes(iteration - 1, **sizes) if iteration else None


@pytest.mark.parametrize("iteration", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (10, 14), (2, 36), (40, 6)])
def test_decodes_what_was_encoded_whatever_the_batch(iteration: int, height: int, width: int) -> None:
    context, sizes = tiny_model().context, {"photos": 2, "height": height, "width": width}
    codes, previous = random_codes(iteration, **sizes), before(iteration, **sizes)
    levels = torch.tensor([0.0, 200 / 128])
    streams = encode_iteration(context, iteration, previous, codes, levels)
    for n, stream in enumerate(streams):
        photo = slice(n, n + 1)
        known = None if previous is None else previous[photo]
        assert encode_iteration(context, iteration, known, codes[photo], levels[photo]) == [stream]
        decoded = decode_iteration(context, iteration, known, (height, width), levels[photo], stream)
        assert torch.equal(decoded, codes[photo])


def test_symbols_far_from_their_prediction_survive() -> None:
    context, codes = tiny_model().context, random_codes(0, spread=80)
    codes = codes.clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)
    codes[0, :, 0, 0], codes[0, :, 1, 1] = LARGEST_SYMBOL, -LARGEST_SYMBOL
    (stream,) = encode_iteration(context, 0, None, codes, LEVEL)
    assert torch.equal(decode_iteration(context, 0, None, (10, 14), LEVEL, stream), codes)


def test_steps_computed_ahead_give_the_same_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the CPU goes step by step."""
    context, codes = tiny_model().context, random_codes(0, photos=2)
    levels = torch.tensor([0.0, 200 / 128])
    streams = encode_iteration(context, 0, None, codes, levels)
    for ahead in (100, 1 << 20):
        monkeypatch.setattr(entropy, "_AHEAD", {"cpu": ahead})
        assert encode_iteration(context, 0, None, codes, levels) == streams


@pytest.mark.parametrize("stream", [b"abc", b"\0" * 4000, b"\xff" * 4000])
def test_refuses_streams_that_no_encoder_wrote(stream: bytes) -> None:
    with pytest.raises(ValueError, match="stream of"):
        decode_iteration(tiny_model().context, 0, None, (10, 14), LEVEL, stream)


def test_refuses_streams_that_are_too_short() -> None:
    """After its last word a range decoder reads zeros."""
    context, codes = tiny_model().context, random_codes(0)
    (stream,) = encode_iteration(context, 0, None, codes, LEVEL)
    for length in range(0, len(stream), 4):
        with pytest.raises(ValueError, match=f"stream of {length} bytes"):
            decode_iteration(context, 0, None, (10, 14), LEVEL, stream[:length])
    for shape in ((20, 14), (10, 28), (2000, 2000)):
        with pytest.raises(ValueError, match=f"stream of {len(stream)} bytes"):
            decode_iteration(context, 0, None, shape, LEVEL, stream)


def test_sums_that_float32_does_not_hold_are_refused() -> None:
    context = ContextModel((2, 4), (6,), 2, (8, 8))
    context.check_exact()
    with torch.no_grad():
        context.networks[0][0][2].linear.weight.fill_(3.9)
    context.check_exact()
    wide = ContextModel((40,), (40,), 1, (8, 8))
    with torch.no_grad():
        wide.networks[0][0][0].first.weight.fill_(3.9)
    with pytest.raises(ValueError, match=r"networks\.0\.0\.0\.first: sums up to \d+ are not exact"):
        wide.check_exact()
    with pytest.raises(ValueError, match="6 symbols in the first iteration, 5 in later ones"):
        ContextModel((2, 4), (5,), 2, (8, 8))
    assert LARGEST_MEAN == LARGEST_SYMBOL
