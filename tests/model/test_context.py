from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from model.context import LOGIT_LIMIT, LOGIT_UNIT, cross_entropy, probability_table
from model.network import ResidualGRUCodec
from tests.conftest import TINY, tiny_model


def random_codes(channels: int, height: int = 6, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (1, channels, height, width), generator=generator).float() * 2 - 1


def test_logits_are_exact() -> None:
    """float32 gives what float64 gives: no sum was rounded, so none depends on its order."""
    model = tiny_model().context
    known = random_codes(2 * TINY.bits + TINY.bits // 2)
    single = model.group_logits(known, iteration=2, group=1)
    double = model.double().group_logits(known.double(), iteration=2, group=1)
    assert torch.equal(single.double(), double)
    assert torch.equal(single * LOGIT_UNIT, (single * LOGIT_UNIT).round())
    assert single.unique().numel() > 3


def test_sums_of_the_largest_model_stay_exact() -> None:
    """The bound that FORMAT.md states, for weights at their limit in all of a wide model."""
    taps, bits, iterations, weight = 9, 16, 16, Fraction(255, 64)
    first = taps * bits * iterations * weight + weight
    second = 48 * Fraction(255, 16) * weight + weight
    assert max(first * 64, second * 1024) < 2**24


def test_a_bit_is_predicted_from_the_past_only() -> None:
    model = tiny_model().context
    codes = [random_codes(TINY.bits) for _ in range(2)]
    before = model.iteration_logits(codes, 1)
    changed = codes[1].clone()
    changed[:, TINY.bits // 2 :] *= -1  # the second group
    after = model.iteration_logits([codes[0], changed], 1)
    assert torch.equal(before, after)
    changed[:, : TINY.bits // 2] *= -1  # the first
    after = model.iteration_logits([codes[0], changed], 1)
    assert torch.equal(before[:, : TINY.bits // 2], after[:, : TINY.bits // 2])
    assert not torch.equal(before, after)


def test_cross_entropy_is_the_cost_in_bits() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0])
    probabilities = torch.sigmoid(logits)
    assert torch.allclose(cross_entropy(torch.ones(3), logits), -probabilities.log2(), atol=1e-6)
    assert torch.allclose(cross_entropy(-torch.ones(3), logits), -(1 - probabilities).log2(), atol=1e-6)


def test_probability_table() -> None:
    table = probability_table()
    logits = np.arange(-LOGIT_LIMIT * LOGIT_UNIT, LOGIT_LIMIT * LOGIT_UNIT + 1) / LOGIT_UNIT
    assert np.allclose(table, 1 / (1 + np.exp(-logits)), atol=2**-20)
    assert np.array_equal(table.astype(np.float32).astype(np.float64), table)
    assert table.min() > 0


def test_bits_must_divide_into_groups() -> None:
    with pytest.raises(ValueError, match="10 bits do not divide into 4 groups"):
        ResidualGRUCodec(replace(TINY, bits=10, context_groups=4))
