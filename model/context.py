"""The context model: how likely each bit of the code is, exactly the same on every machine.

An arithmetic decoder that is fed one different probability produces garbage from there on, and
floating-point networks differ in the last place between machines. So every value in here is a
dyadic rational: weights are multiples of 1/64, activations of 1/16, and all sums stay far below
2**24 of their unit, where float32 addition is exact in any order. See "Integer networks for data
compression with latent-variable models" (Ballé, Johnston and Minnen, ICLR 2019).
"""

import math
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


class ContextModel(nn.Module):
    """Predicts each iteration's bits in `groups` steps, every position of a step at once.

        B[1] .. B[i-1] and groups 1 .. g-1 of B[i], 3x3 around ── 3x3 conv ── clamp ── 1x1 ── logits

    Each iteration and group has weights of its own. Training and coding run the same code; only
    the straight-through gradients of the roundings are extra. The logit of a bit is ln p(+1)/p(-1).
    """

    def __init__(self, iterations: int, bits: int, groups: int, hidden: int) -> None:
        super().__init__()
        if bits % groups:
            raise ValueError(f"{bits} bits do not divide into {groups} groups")
        self.bits = bits
        self.groups = groups
        self.group_bits = bits // groups
        self.neighbours = nn.ModuleList()
        self.logits = nn.ModuleList()
        for iteration in range(iterations):
            for group in range(groups):
                known = iteration * bits + group * self.group_bits
                self.neighbours.append(nn.Conv2d(max(known, 1), hidden, 3, padding=1))
                self.logits.append(nn.Conv2d(hidden, self.group_bits, 1))

    def group_logits(self, known: Tensor, iteration: int, group: int) -> Tensor:
        """Logits (N, bits / groups, h, w) of one group, multiples of 1/16 between -10 and 10.

        Args:
            known: (N, C, h, w), -1 or +1: all bits of earlier iterations, then the earlier groups.
        """
        step = iteration * self.groups + group
        first, second = cast(nn.Conv2d, self.neighbours[step]), cast(nn.Conv2d, self.logits[step])
        if not known.shape[1]:  # nothing is known before the very first group
            known = known.new_zeros(known.shape[0], 1, *known.shape[2:])
        x = F.conv2d(known, _quantize(first.weight), _quantize_bias(first), padding=1)
        x = _round(x, ACTIVATION_UNIT).clamp(0, ACTIVATION_LIMIT)
        x = F.conv2d(x, _quantize(second.weight), _quantize_bias(second))
        return _round(x, LOGIT_UNIT).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)

    def iteration_logits(self, codes: list[Tensor], iteration: int) -> Tensor:
        """Logits (N, bits, h, w) of B[iteration], with codes B[0..iteration] all at hand."""
        known = torch.cat(codes[: iteration + 1], dim=1).float()
        groups = [
            self.group_logits(known[:, : iteration * self.bits + group * self.group_bits], iteration, group)
            for group in range(self.groups)
        ]
        return torch.cat(groups, dim=1)


def cross_entropy(bits: Tensor, logits: Tensor) -> Tensor:
    """Bits that each of `bits` (-1 or +1) costs; linear in the bit, so its gradient prefers the likelier."""
    return (F.softplus(logits) - (bits + 1) / 2 * logits) / math.log(2)


def probability_table() -> NDArray[np.float64]:
    """p(+1) for each logit from -10 to 10 in steps of 1/16, in decimal arithmetic: the same anywhere."""
    logits = range(-LOGIT_LIMIT * LOGIT_UNIT, LOGIT_LIMIT * LOGIT_UNIT + 1)
    exact = [1 / (1 + (-Decimal(logit) / LOGIT_UNIT).exp()) for logit in logits]
    return np.array([int(p * PROBABILITY_UNIT) / PROBABILITY_UNIT for p in exact])


def _round(x: Tensor, unit: int) -> Tensor:
    """To the next lower multiple of 1/unit, with the gradient of the identity."""
    rounded = torch.floor(x.detach() * unit) / unit
    return x + (rounded - x).detach() if x.requires_grad else rounded


def _quantize(weight: Tensor) -> Tensor:
    return _round(weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) + 0.5 / WEIGHT_UNIT, WEIGHT_UNIT)


def _quantize_bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return _quantize(layer.bias)
