import numpy as np
import pytest
import torch

from model.context import LARGEST_MEAN, ContextModel, bits
from model.entropy import Distribution, _bits, decode_iteration, encode_iteration
from model.network import LARGEST_SYMBOL
from tests.conftest import TINY, tiny_model

LEVEL = torch.tensor([100 / 128])


def random_codes(
    iteration: int, photos: int = 1, height: int = 10, width: int = 14, spread: float = 1.5
) -> torch.Tensor:
    random = np.random.default_rng(iteration)
    values = random.normal(0, spread, (photos, TINY.symbols[iteration], height, width)).round()
    return torch.from_numpy(values.astype(np.float32))


def before(iteration: int, **sizes: int) -> torch.Tensor | None:
    return torch.cat([random_codes(i, **sizes) for i in range(iteration)], dim=1) if iteration else None


@pytest.mark.parametrize("iteration", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (10, 14), (2, 36), (40, 6)])
def test_decodes_what_was_encoded_whatever_the_batch(iteration: int, height: int, width: int) -> None:
    context, sizes = tiny_model().context, {"photos": 2, "height": height, "width": width}
    codes, earlier = random_codes(iteration, **sizes), before(iteration, **sizes)
    levels = torch.tensor([0.0, 200 / 128])
    streams = encode_iteration(context, iteration, earlier, codes, levels)
    for n, stream in enumerate(streams):
        photo = slice(n, n + 1)
        known = None if earlier is None else earlier[photo]
        assert encode_iteration(context, iteration, known, codes[photo], levels[photo]) == [stream]
        decoded = decode_iteration(context, iteration, known, (height, width), levels[photo], stream)
        assert torch.equal(decoded, codes[photo])


def test_symbols_far_from_their_prediction_survive() -> None:
    context, codes = tiny_model().context, random_codes(0, spread=80)
    codes = codes.clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)
    codes[0, :, 0, 0], codes[0, :, 1, 1] = LARGEST_SYMBOL, -LARGEST_SYMBOL
    (stream,) = encode_iteration(context, 0, None, codes, LEVEL)
    assert torch.equal(decode_iteration(context, 0, None, (10, 14), LEVEL, stream), codes)


def logistic_symbols(means: torch.Tensor, log_scale: float) -> torch.Tensor:
    uniform = torch.rand(means.shape, generator=torch.Generator().manual_seed(0))
    return (means + torch.logit(uniform) * 2**log_scale).round().clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 0.5, 3.0, 6.0])
def test_planes_of_bits_cost_what_the_distribution_says(log_scale: float) -> None:
    """Each symbol's bits together have the probability that training reckons with."""
    means = (torch.rand(4000, generator=torch.Generator().manual_seed(1)) * 80 - 40).mul(16).floor() / 16
    symbols = logistic_symbols(means, log_scale)
    distribution = Distribution(
        (means * 16).long().numpy(), np.full(len(means), round(log_scale * 16), np.int64)
    )
    cost = 0.0
    for plane, probabilities in _bits(distribution, symbols.long().numpy() - distribution.rounded_mean):
        assert ((probabilities > 0) & (probabilities < 1)).all()
        cost -= np.log2(np.where(plane, probabilities, 1 - probabilities)).sum()
    expected = bits(symbols - means, torch.full_like(means, log_scale)).sum().item()
    assert cost == pytest.approx(expected, rel=0.02, abs=4)


def test_what_is_certain_costs_nothing() -> None:
    distribution = Distribution(np.full(1000, 37 * 16), np.full(1000, -80))
    assert (-np.log2(1 - distribution.is_nonzero())).sum() < 0.01


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
    context = ContextModel(((2, 4), (4,)), 8)
    context.check_exact()
    with torch.no_grad():
        context.networks[1][0][2].linear.weight.fill_(3.9)
    context.check_exact()
    wide = ContextModel(((40,),), 8)
    with torch.no_grad():
        wide.networks[0][0][0].first.weight.fill_(3.9)
    with pytest.raises(ValueError, match=r"networks\.0\.0\.0\.first: sums up to \d+ are not exact"):
        wide.check_exact()
    assert LARGEST_MEAN == LARGEST_SYMBOL
