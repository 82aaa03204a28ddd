from dataclasses import replace

import numpy as np
import pytest
import torch

from model.context import LOGIT_LIMIT, LOGIT_UNIT, ContextModel, Step, cross_entropy, probability_table
from model.network import CodecConfig, ResidualGRUCodec
from tests.conftest import TINY, tiny_model
from tests.model.format import stranger


def random_codes(
    photos: int = 1, height: int = 6, width: int = 8, channels: int = sum(TINY.bits)
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (photos, channels, height, width), generator=generator).float() * 2 - 1


def all_steps(context: ContextModel) -> list[tuple[int, int, Step]]:
    return [(i, number, step) for i, steps in enumerate(context.steps) for number, step in enumerate(steps)]


@pytest.mark.parametrize(("photos", "height", "width"), [(1, 6, 8), (16, 4, 6), (1, 64, 96)])
def test_logits_are_what_integer_arithmetic_gives(photos: int, height: int, width: int) -> None:
    """Also in the batches and sizes at which torch takes other kernels."""
    context, codes = tiny_model().context, random_codes(photos, height, width)
    weights = {f"context.{name}": value.numpy() for name, value in context.named_parameters()}
    for iteration, number, step in all_steps(context):
        logits = context.step_logits(codes, iteration, number)
        places = (step.top, step.left, step.stride)
        known = context._known(codes, iteration, number).numpy()
        for photo in range(photos):
            expected = stranger.logits(weights, f"{iteration}.{number}", known[photo].astype(int), *places)
            assert np.array_equal(logits[photo].numpy() * LOGIT_UNIT, expected)
        assert logits.shape == step.bits(codes).shape
        if step.seen:
            assert logits.unique().numel() > 3


def test_logits_are_the_same_without_onednn() -> None:
    """By the matrix product that GPUs take, too. (For so many photos, torch would take NNPACK.)"""
    context, codes = tiny_model().context, random_codes(photos=16)
    here = [context.step_logits(codes, iteration, number) for iteration, number, _ in all_steps(context)]
    with torch.backends.mkldnn.flags(enabled=False):
        there = [context.step_logits(codes, iteration, number) for iteration, number, _ in all_steps(context)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_sums_of_the_shipped_model_stay_exact() -> None:
    ResidualGRUCodec(CodecConfig())
    with pytest.raises(ValueError, match=r"bits \(16, 16\), hidden 300: sums up to 195\d+ are not exact"):
        ContextModel([16, 16], groups=4, hidden=300)


def test_every_bit_is_coded_once_and_predicted_from_earlier_steps_only() -> None:
    context, codes = tiny_model().context, random_codes()
    times_coded = torch.zeros_like(codes)
    steps = all_steps(context)
    before = [context.step_logits(codes, iteration, number) for iteration, number, _ in steps]
    for position, (_, _, step) in enumerate(steps):
        step.bits(times_coded).add_(1)
        changed = codes.clone()
        step.bits(changed).neg_()
        after = [context.step_logits(changed, iteration, number) for iteration, number, _ in steps]
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(same[: position + 1]) and (not all(same) or position == len(steps) - 1)
    assert (times_coded == 1).all()


def test_a_bit_of_the_first_iteration_is_predicted_from_its_neighbours() -> None:
    context, codes = tiny_model().context, random_codes()
    first, second = context.steps[0][0], context.steps[0][2]
    assert (first.top, first.left) != (second.top, second.left)
    before = context.step_logits(codes, 0, 2)
    first.bits(codes)[0, 0, 1, 1] *= -1  # at row 2, column 2: the neighbour of (1, 1), (1, 3), (3, 1), (3, 3)
    changed = (context.step_logits(codes, 0, 2) != before).any(dim=1)[0]
    assert changed[:2, :2].any() and not changed[2:].any() and not changed[:, 2:].any()


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
    with pytest.raises(ValueError, match=r"bits \(8, 8, 20\) do not all divide into 8 groups"):
        ResidualGRUCodec(replace(TINY, fine_bits=20, context_groups=8))
