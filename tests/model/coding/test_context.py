import numpy as np
import pytest
import torch

from model.coding.context import ContextModel, bits
from model.coding.limits import ACTIVATION_UNIT
from model.coding.steps import LEVELS, Step
from tests.conftest import TINY, tiny_model
from tests.model.format import stranger

LEVEL = torch.tensor([77 / 128])


def codes_of(height: int = 6, width: int = 8, photos: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(-3, 4, (photos, symbols, height, width), generator=generator).float()
        for symbols in TINY.symbols
    ]


def all_steps(context: ContextModel) -> list[Step]:
    return [step for iteration in range(TINY.iterations) for step in context.steps(iteration)]


def predict(context: ContextModel, step: Step, codes: list[torch.Tensor]) -> torch.Tensor:
    """Means and logarithms of scales in units of 1/16, side by side."""
    previous = codes[step.iteration - 1] if step.iteration else None
    level = LEVEL.expand(len(codes[0]))
    known = context.known(step.iteration, previous, codes[step.iteration])
    return torch.cat(context.predict(step, known, level), dim=1)


@pytest.mark.parametrize(("photos", "height", "width"), [(1, 6, 8), (3, 4, 6), (1, 34, 40)])
def test_predictions_are_what_integer_arithmetic_gives(photos: int, height: int, width: int) -> None:
    """Also in the batches and sizes at which torch takes other kernels."""
    context, codes = tiny_model().context, codes_of(height, width, photos)
    weights = {f"context.{name}": value.numpy() for name, value in context.named_parameters()}
    for step in all_steps(context):
        if step.first_of_all or not step.symbols(codes[step.iteration]).numel():
            continue
        predicted = predict(context, step, codes)
        name = f"context.networks.{min(step.iteration, 1)}.{step.group}.{step.quarter - step.very_first}"
        case = step.stride.bit_length() - 1 if step.very_first else max(step.iteration - 1, 0)
        for photo in range(photos):
            own, earlier = (
                codes[step.iteration][photo, channels].numpy().astype(int)
                for channels in (slice(step.start, step.stop), slice(step.start))
            )
            near = np.int64(0)
            if step.very_first:
                known, near = stranger.differences(own[:, :: step.stride, :: step.stride], step.quarter)
            else:
                if step.iteration:
                    previous = codes[step.iteration - 1][photo, : TINY.symbols[0]].numpy().astype(int)
                    before = np.concatenate([previous, earlier])
                else:
                    before = stranger.edges(earlier, TINY.first_groups[0])
                if step.quarter:
                    before = np.concatenate([before, stranger.seen(own, step.quarter)])
                known = stranger.cut(before, weights[f"{name}.first.weight"].shape[2], step.quarter)
            mean, scale = stranger.predict(weights, name, known, len(own), case, 77 + 96)
            expected = np.concatenate([np.clip(mean + near, -4080, 4080), np.clip(scale, -80, 96)])
            assert np.array_equal(predicted[photo].numpy(), expected)
        assert predicted.unique().numel() > 3


def test_predictions_are_the_same_without_onednn() -> None:
    """By the matrix product that GPUs take, too. (For so many photos, torch would take NNPACK.)"""
    context, codes = tiny_model().context, codes_of(photos=16)
    here = [predict(context, step, codes) for step in all_steps(context)]
    with torch.backends.mkldnn.flags(enabled=False):
        there = [predict(context, step, codes) for step in all_steps(context)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_kept_weights_predict_the_same_until_they_are_kept_again() -> None:
    context, codes = tiny_model().context, codes_of()
    steps = [step for step in all_steps(context)[1:] if step.symbols(codes[0]).numel()]

    def all_predictions() -> list[torch.Tensor]:
        return [predict(context, step, codes) for step in steps]

    live = all_predictions()
    context.keep_quantized()
    with torch.no_grad():
        for parameter in context.networks.parameters():
            parameter.add_(0.5)
    assert all(map(torch.equal, all_predictions(), live))
    context.keep_quantized()
    assert not any(map(torch.equal, all_predictions(), live))


def test_every_symbol_is_coded_once_and_predicted_from_earlier_steps_only() -> None:
    context, codes = tiny_model().context, codes_of()
    steps = [step for step in all_steps(context) if step.symbols(codes[step.iteration]).numel()]
    times_coded = [torch.zeros_like(iteration) for iteration in codes]
    before = [predict(context, step, codes) for step in steps]
    for position, step in enumerate(steps):
        step.symbols(times_coded[step.iteration]).add_(1)
        changed = [iteration.clone() for iteration in codes]
        step.symbols(changed[step.iteration]).add_(20)
        after = [predict(context, other, changed) for other in steps]
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(same[: position + 1]) and (not all(same) or position == len(steps) - 1)
    assert all((times == 1).all() for times in times_coded)


def test_the_very_first_group_is_coded_from_coarse_to_fine() -> None:
    steps = [step for step in tiny_model().context.steps(0) if step.group == 0]
    assert [step.stride for step in steps] == [16, *(d for d in (16, 8, 4, 2, 1) for _ in range(3))]
    covered = steps[0].symbols(torch.zeros(1, 2, 64, 128))
    assert covered.shape[2:] == (2, 4) and LEVELS == 5


def test_the_level_shows_in_the_predictions() -> None:
    context, codes = tiny_model().context, codes_of()
    step = list(context.steps(1))[1]
    known = context.known(1, codes[0], codes[1])
    low, high = (
        torch.cat(context.predict(step, known, torch.tensor([level])), dim=1) for level in (0.0, 0.5)
    )
    assert torch.equal(low, high)  # untrained
    with torch.no_grad():
        context.networks[1][0][1].of_level.fill_(2.0)
    assert not torch.equal(low, torch.cat(context.predict(step, known, torch.tensor([0.5])), dim=1))


def test_bits_are_the_logistic_distribution_s() -> None:
    distance, log_scale = torch.tensor([0.0, 0.3, -1.0, 4.0]), torch.tensor([0.0, -1.0, 1.0, 0.5])
    scale = 2**log_scale
    inside = torch.sigmoid((distance + 0.5) / scale) - torch.sigmoid((distance - 0.5) / scale)
    assert torch.allclose(bits(distance, log_scale), -inside.log2(), atol=1e-4)
    far = bits(torch.tensor([500.0]), torch.tensor([-5.0]))
    assert far.isfinite().all() and far > 1000


def test_a_colour_is_predicted_like_any_other() -> None:
    """Networks of the first iteration see differences of brightness and colour only."""
    context, codes = tiny_model().context, codes_of(34, 40)
    shifted = codes[0].clone()
    shifted[:, context.even] += 100
    known, known_there = (context.known(0, None, each) for each in (codes[0], shifted))
    for step in all_steps(context):
        if step.iteration == 0 and not step.first_of_all:
            mean, log_scale = context.predict(step, known, LEVEL)
            there, log_scale_there = context.predict(step, known_there, LEVEL)
            if step.very_first:
                there[:, context.even] -= 100 * ACTIVATION_UNIT
            assert torch.equal(mean, there) and torch.equal(log_scale, log_scale_there)
