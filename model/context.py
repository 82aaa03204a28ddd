"""The context model: how likely each bit of the code is, exactly the same on every machine.

An arithmetic decoder that is fed one different probability produces garbage from there on, and
floating-point networks differ in the last place between machines. So every value in here is a
dyadic rational: weights are multiples of 1/64, activations of 1/16, and all sums stay far below
2**24 of their unit, where float32 addition is exact in any order. See "Integer networks for data
compression with latent-variable models" (Ballé, Johnston and Minnen, ICLR 2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_UNIT = 64
WEIGHT_LIMIT = 255 / WEIGHT_UNIT  # 8 bits: exact even where a process lets float32 run as bfloat16
ACTIVATION_UNIT = 16
ACTIVATION_LIMIT = 255 / ACTIVATION_UNIT
LOGIT_UNIT = 16
LOGIT_LIMIT = 10
PROBABILITY_UNIT = 1 << 20
EXACT_BELOW = 1 << 24  # integers that float32 holds
_EVERY_POSITION = (0, 0, 1)  # top, left, stride
_QUARTERS_OF_GRID = ((0, 0, 2), (1, 1, 2), (0, 1, 2), (1, 0, 2))


@dataclass(frozen=True)
class Step:
    """Bits that are coded together: some channels of one iteration, at every `stride`th position.

    Attributes:
        start, stop: the channels, counted over all iterations.
        seen: channels that the prediction looks at.
        top, left, stride: the first position and the distance to the next, in code positions.
    """

    start: int
    stop: int
    seen: int
    top: int
    left: int
    stride: int

    def bits(self, codes: Tensor) -> Tensor:
        """Its bits among all codes (N, C, h, w): a view (N, stop - start, h / stride, w / stride)."""
        return codes[:, self.start : self.stop, self.top :: self.stride, self.left :: self.stride]


class ContextModel(nn.Module):
    """Predicts each iteration's bits in a few steps, all positions of a step at once.

        all bits of earlier steps, 3x3 around ── 3x3 conv ── clamp ── 1x1 ── logits

    Each step has weights of its own. An iteration's channels are cut into groups, a step each. The
    first iteration, before which nothing is known, is coded in four passes over a grid of 2x2
    positions, with those groups in each, so that a bit is predicted from its neighbours too:

        0 2 0 2
        3 1 3 1
        0 2 0 2

    Training and coding run the same code; only the straight-through gradients of the roundings are
    extra. The logit of a bit is ln p(+1)/p(-1).

    Args:
        bits: of each iteration, for each code position.
        groups: that each iteration's bits are cut into.
        hidden: width of each step's network.

    Raises:
        ValueError: bits that do not divide into the groups, or sums that float32 could not hold exactly.
    """

    def __init__(self, bits: Sequence[int], groups: int, hidden: int) -> None:
        super().__init__()
        if any(count % groups for count in bits):
            raise ValueError(f"bits {tuple(bits)} do not all divide into {groups} groups")
        largest = max(
            (9 * sum(bits) + 1) * WEIGHT_LIMIT * WEIGHT_UNIT,
            (hidden * ACTIVATION_LIMIT + 1) * WEIGHT_LIMIT * WEIGHT_UNIT * ACTIVATION_UNIT,
        )
        if largest >= EXACT_BELOW:
            raise ValueError(f"bits {tuple(bits)}, hidden {hidden}: sums up to {largest:.0f} are not exact")
        self.bits = tuple(bits)
        self.steps = [_steps(self.bits, iteration, groups) for iteration in range(len(bits))]
        self.neighbours = nn.ModuleList()
        self.logits = nn.ModuleList()
        for steps in self.steps:
            self.neighbours.append(nn.ModuleList(nn.Conv2d(max(s.seen, 1), hidden, 3) for s in steps))
            self.logits.append(nn.ModuleList(nn.Conv2d(hidden, s.stop - s.start, 1) for s in steps))

    def step_logits(self, codes: Tensor, iteration: int, number: int) -> Tensor:
        """Logits of a step's bits, in the shape of `Step.bits`: multiples of 1/16 between -10 and 10.

        Args:
            codes: (N, C, h, w), -1 or +1: bits of earlier iterations, then of this one; those that
                later steps code have no influence. h and w are even.
        """
        step = self.steps[iteration][number]
        first = cast(nn.Conv2d, cast(nn.ModuleList, self.neighbours[iteration])[number])
        second = cast(nn.Conv2d, cast(nn.ModuleList, self.logits[iteration])[number])
        known = F.pad(self._known(codes, iteration, number), (1, 1, 1, 1))[:, :, step.top :, step.left :]
        x = _convolution(known, _quantize(first.weight), _quantize_bias(first), step.stride)
        x = _round(x, ACTIVATION_UNIT).clamp(0, ACTIVATION_LIMIT)
        x = _convolution(x, _quantize(second.weight), _quantize_bias(second), 1)
        return _round(x, LOGIT_UNIT).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)

    def cross_entropy(self, codes: Tensor, iteration: int) -> Tensor:
        """Bits that B[iteration] of each image costs, (N,).

        Args:
            codes: (N, C, h, w) -1 or +1: all bits of the iterations up to and with this one.
        """
        costs = []
        for number, step in enumerate(self.steps[iteration]):
            logits = self.step_logits(codes, iteration, number)
            costs.append(cross_entropy(step.bits(codes), logits).sum(dim=(1, 2, 3)))
        return torch.stack(costs).sum(dim=0)

    def parameters_of(self, first: int, stop: int) -> list[nn.Parameter]:
        """What predicts the bits of the iterations first .. stop - 1."""
        modules = [*self.neighbours[first:stop], *self.logits[first:stop]]
        return [parameter for module in modules for parameter in module.parameters()]

    def _known(self, codes: Tensor, iteration: int, number: int) -> Tensor:
        """The bits that a step's prediction may see (N, seen, h, w), 0 where one is not known yet."""
        step = self.steps[iteration][number]
        if not step.seen:  # before the very first bit
            return codes.new_zeros(codes.shape[0], 1, *codes.shape[2:])
        known = codes[:, : step.seen]
        if step.stride == 1:
            return known
        mask = torch.zeros_like(known[:1])
        for earlier in self.steps[iteration][:number]:
            earlier.bits(mask).fill_(1)
        return known * mask


def cross_entropy(bits: Tensor, logits: Tensor) -> Tensor:
    """Bits that each of `bits` (-1 or +1) costs; linear in the bit, so its gradient prefers the likelier."""
    return (F.softplus(logits) - (bits + 1) / 2 * logits) / math.log(2)


def probability_table() -> NDArray[np.float64]:
    """p(+1) for each logit from -10 to 10 in steps of 1/16, in decimal arithmetic: the same anywhere."""
    logits = range(-LOGIT_LIMIT * LOGIT_UNIT, LOGIT_LIMIT * LOGIT_UNIT + 1)
    exact = [1 / (1 + (-Decimal(logit) / LOGIT_UNIT).exp()) for logit in logits]
    return np.array([int(p * PROBABILITY_UNIT) / PROBABILITY_UNIT for p in exact])


def _steps(bits: tuple[int, ...], iteration: int, groups: int) -> list[Step]:
    before, after = sum(bits[:iteration]), sum(bits[: iteration + 1])
    group = bits[iteration] // groups
    starts = range(before, after, group)
    if iteration:
        return [Step(start, start + group, start, *_EVERY_POSITION) for start in starts]
    return [
        Step(start, start + group, after if (place, start) != (_QUARTERS_OF_GRID[0], 0) else 0, *place)
        for place in _QUARTERS_OF_GRID
        for start in starts
    ]


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A convolution without padding as plain sums of products.

    cuDNN's and NNPACK's Winograd kernels multiply by fractions, which is not exact. oneDNN, which
    torch takes on CPUs where it has it, adds products only; elsewhere a matrix product does.
    """
    onednn = torch.backends.mkldnn
    if x.device.type == "cpu" and onednn.enabled and onednn.is_available():  # type: ignore[no-untyped-call]
        return F.conv2d(x, weight, bias, stride)
    side = weight.shape[-1]
    columns = weight.flatten(1) @ F.unfold(x, side, stride=stride) + bias[:, None]
    height, width = ((length - side) // stride + 1 for length in x.shape[2:])
    return columns.view(x.shape[0], -1, height, width)


def _round(x: Tensor, unit: int) -> Tensor:
    """To the next lower multiple of 1/unit, with the gradient of the identity."""
    rounded = torch.floor(x.detach() * unit) / unit
    return x + (rounded - x).detach() if x.requires_grad else rounded


def _quantize(weight: Tensor) -> Tensor:
    return _round(weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) + 0.5 / WEIGHT_UNIT, WEIGHT_UNIT)


def _quantize_bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return _quantize(layer.bias)
