import numpy as np
import pytest
import torch

from model.coding import range_coder
from model.coding.context import bits
from model.coding.entropy import shapes
from model.coding.limits import LARGEST_SYMBOL
from model.coding.range_coder import StreamReader, _planes, encode


def logistic_symbols(means: torch.Tensor, log_scale: float) -> torch.Tensor:
    uniform = torch.rand(means.shape, generator=torch.Generator().manual_seed(0))
    return (means + torch.logit(uniform) * 2**log_scale).round().clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 0.5, 3.0, 6.0])
def test_planes_of_bits_cost_what_the_distribution_says(log_scale: float) -> None:
    """Each symbol's bits together have the probability that training reckons with."""
    means = (torch.rand(4000, generator=torch.Generator().manual_seed(1)) * 80 - 40).mul(16).floor() / 16
    symbols = logistic_symbols(means, log_scale)
    cost = 0.0
    rounded, shape = shapes(means * 16, torch.full_like(means, log_scale * 16))
    for plane, table, rows in _planes((symbols - rounded).short().numpy(), shape.numpy()):
        probabilities = table[rows]
        assert ((probabilities > 0) & (probabilities < 1)).all()
        cost -= np.log2(np.where(plane, probabilities, 1 - probabilities)).sum()
    expected = bits(symbols - means, torch.full_like(means, log_scale)).sum().item()
    assert cost == pytest.approx(expected, rel=0.02, abs=4)


def test_what_is_certain_costs_nothing() -> None:
    _, shape = shapes(torch.full((1000,), 37.0 * 16), torch.full((1000,), -80.0))
    _, table, rows = next(_planes(np.zeros(1000, np.int16), shape.numpy()))
    assert (-np.log2(1 - table[rows])).sum() < 0.01


def test_pieces_do_not_show_in_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    distances = random.normal(0, 2, 1000).round().astype(np.int16)
    numbers = random.integers(0, range_coder._SHAPES, 1000).astype(np.int16)
    stream = encode([(distances, numbers)])
    monkeypatch.setattr(range_coder, "_PIECE", 7)
    assert encode([(distances, numbers)]) == stream
    reader = StreamReader(stream)
    assert np.array_equal(reader.read(numbers), distances)
    reader.finish()
