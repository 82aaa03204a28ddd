"""The context model: how likely each symbol of the code is, exactly the same on every machine.

An arithmetic decoder that is fed one different probability produces garbage from there on, and
floating-point networks differ in the last place between machines. So every value in here is a
dyadic rational: weights are multiples of 1/64, activations of 1/16, and all sums stay far below
2**24 of their unit, where float32 addition is exact in any order. See "Integer networks for data
compression with latent-variable models" (Ballé, Johnston and Minnen, ICLR 2019).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_UNIT = 64
WEIGHT_LIMIT = 255 / WEIGHT_UNIT  # 8 bits: exact even where a process lets float32 run as bfloat16
ACTIVATION_UNIT = 16
ACTIVATION_LIMIT = 255 / ACTIVATION_UNIT
LARGEST_MEAN = 255
LOG_SCALE_LIMITS = (-5.0, 6.0)  # of log2 of a distribution's scale
EXACT_BELOW = 1 << 24  # integers that float32 holds
KERNELS = (5, 3)  # in the first iteration, in later ones, which know much already
LEVELS = 5  # grids of doubling stride that the very first group is coded in
_QUARTERS = ((0, 0), (1, 1), (0, 1), (1, 0))  # of each 2x2 positions: top, left


@dataclass(frozen=True)
class Step:
    """Symbols that are coded together: a group of channels at a quarter of the positions of a grid.

    Attributes:
        iteration, group: which network.
        quarter: which of the grid's quarters, 0 to 3; earlier ones are known.
        stride: of the grid, in code positions.
        start, stop: the group's channels among its iteration's.
    """

    iteration: int
    group: int
    quarter: int
    stride: int
    start: int
    stop: int

    @property
    def first_of_all(self) -> bool:
        """Whether nothing at all is known before it."""
        return self.iteration == self.group == self.quarter == 0

    def symbols(self, codes: Tensor) -> Tensor:
        """Its symbols among those of its iteration (N, C, h, w): a view."""
        top, left = _QUARTERS[self.quarter]
        step = 2 * self.stride
        return codes[:, self.start : self.stop, top * self.stride :: step, left * self.stride :: step]


class StepNetwork(nn.Module):
    """Mean and scale of a step's symbols from known ones, in a few layers of integers.

        known, around ───── conv ── clamp ── 1x1 ── clamp ── 1x1 ── log2 of scale
                own group ── linear conv ───────────────────── + ── mean

    Biases follow the gain's level; in the very first group also the grid's stride.
    """

    def __init__(self, earlier: int, own: int, sees_own: bool, hidden: int, grids: int, kernel: int) -> None:
        super().__init__()
        self.own = own
        self.first = nn.Conv2d(earlier + own * sees_own, hidden, kernel)
        self.of_level = nn.Parameter(torch.zeros(hidden))
        self.of_grid = nn.Parameter(torch.zeros(grids, hidden))
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * own, 1)
        self.linear = nn.Conv2d(own, own, kernel, bias=False) if sees_own else None
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.weight.mul_(0.3)
            if self.linear is not None:
                self.linear.weight.mul_(0.1)

    def forward(self, known: Tensor, level: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """Means (N, own, h, w) and log2 of scales, multiples of 1/16.

        Args:
            known: (N, C, h', w') symbols, the own group's last if any is known, 0 where not known;
                padded, and cut so that the first output is the step's first position.
            level: of the gain, (N,), float32 multiples of 1/128 from -1/2.
            grid: log2 of the grid's stride.
        """
        bias = _quantize(_bias(self.first)) + _quantize(self.of_grid[grid])
        bias = _round(bias + level[:, None] * _quantize(self.of_level), WEIGHT_UNIT)
        x = _convolution(known, _quantize(self.first.weight), None, 2)
        x = _round(x + bias[:, :, None, None].to(x.dtype)).clamp(0, ACTIVATION_LIMIT)
        x = _convolution(x, _quantize(self.second.weight), _quantize(_bias(self.second)), 1)
        x = _round(x).clamp(0, ACTIVATION_LIMIT)
        x = _convolution(x, _quantize(self.last.weight), _quantize(_bias(self.last)), 1).float()
        mean, log_scale = _round(x).chunk(2, dim=1)
        if self.linear is not None:
            with torch.autocast(known.device.type, enabled=False):
                own = known[:, -self.own :].float()
                mean = mean + _round(_convolution(own, _quantize(self.linear.weight), None, 2))
        return mean.clamp(-LARGEST_MEAN, LARGEST_MEAN), log_scale.clamp(*LOG_SCALE_LIMITS)


class ContextModel(nn.Module):
    """Predicts each iteration's symbols in a few steps, all positions of a step at once.

    An iteration's channels are cut into groups. Each group is coded in four passes over a quarter of
    the positions, and sees what is known: earlier iterations, earlier groups, earlier quarters.

        0 2 0 2
        3 1 3 1
        0 2 0 2

    Before the very first group nothing is known. So its quarter 0 is coded as a grid of twice the stride,
    in quarters too, and so on: what a photo's large smooth parts cost is hardly anything.

    Args:
        groups: of each iteration, the sizes of its groups.
        hidden: width of each step's network.
    """

    def __init__(self, groups: Sequence[Sequence[int]], hidden: int) -> None:
        super().__init__()
        self.groups = [tuple(sizes) for sizes in groups]
        self.networks = nn.ModuleList()
        before = 0
        for iteration, sizes in enumerate(self.groups):
            of_iteration, kernel = nn.ModuleList(), KERNELS[min(iteration, 1)]
            for group, own in enumerate(sizes):
                very_first = iteration == group == 0
                earlier = before + sum(sizes[:group])
                of_iteration.append(
                    nn.ModuleList(
                        StepNetwork(earlier, own, quarter > 0, hidden, LEVELS if very_first else 1, kernel)
                        for quarter in range(very_first, 4)
                    )
                )
            self.networks.append(of_iteration)
            before += sum(sizes)
        own = self.groups[0][0]
        self.mean = nn.Parameter(torch.zeros(2, own))  # of the very first symbols: at level 0, and its slope
        self.log_scale = nn.Parameter(torch.tensor([[2.0], [2.0]]).repeat(1, own))

    def steps(self, iteration: int) -> Iterator[Step]:
        """Of one iteration, in the order in which they are coded."""
        start = 0
        for group, own in enumerate(self.groups[iteration]):
            if iteration == group == 0:
                yield Step(0, 0, 0, 1 << (LEVELS - 1), 0, own)
                for grid in reversed(range(LEVELS)):
                    yield from (Step(0, 0, quarter, 1 << grid, 0, own) for quarter in (1, 2, 3))
            else:
                yield from (Step(iteration, group, q, 1, start, start + own) for q in range(4))
            start += own

    def predict(
        self, step: Step, earlier: Tensor | None, codes: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and log2 of scales of a step's symbols, each in the shape of `Step.symbols`.

        Args:
            earlier: symbols of earlier iterations (N, C, h, w); None in the first.
            codes: symbols of this one (N, C, h, w); those of later steps have no influence.
            level: of the gain, (N,).
        """
        shape = step.symbols(codes).shape
        if step.first_of_all:
            (mean, mean_slope), (log_scale, scale_slope) = _quantize(self.mean), _quantize(self.log_scale)
            mean = _round(mean + level[:, None] * mean_slope)
            log_scale = _round(log_scale + level[:, None] * scale_slope).clamp(*LOG_SCALE_LIMITS)
            return mean[:, :, None, None].expand(shape), log_scale[:, :, None, None].expand(shape)
        if 0 in shape:
            return codes.new_zeros(shape), codes.new_zeros(shape)
        grid = codes[:, : step.stop, :: step.stride, :: step.stride]
        parts = [] if earlier is None else [earlier]
        parts.append(grid[:, : step.start])
        if step.quarter:
            parts.append(grid[:, step.start :] * _known(grid, step.quarter))
        top, left = _QUARTERS[step.quarter]
        margin = KERNELS[min(step.iteration, 1)] // 2
        known = F.pad(torch.cat(parts, dim=1), (margin,) * 4)[:, :, top:, left:]
        very_first = step.iteration == step.group == 0
        networks = cast(nn.ModuleList, cast(nn.ModuleList, self.networks[step.iteration])[step.group])
        network = networks[step.quarter - 1 if very_first else step.quarter]
        return cast(
            tuple[Tensor, Tensor], network(known, level, step.stride.bit_length() - 1 if very_first else 0)
        )

    def rate(
        self, iteration: int, earlier: Tensor | None, codes: Tensor, noisy: Tensor, level: Tensor
    ) -> Tensor:
        """Bits that an iteration of each image costs, (N,), for training.

        Args:
            earlier, codes, level: as in `predict`.
            noisy: values before rounding, with uniform noise, in the shape of `codes`.
        """
        costs = []
        for step in self.steps(iteration):
            mean, log_scale = self.predict(step, earlier, codes, level)
            costs.append(bits(step.symbols(noisy) - mean, log_scale).flatten(1).sum(dim=1))
        return torch.stack(costs).sum(dim=0)

    def check_exact(self) -> None:
        """Makes sure that float32 holds every sum exactly, whatever the symbols.

        Raises:
            ValueError: the weights of a layer are too large for that.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                # In units of a weight times a symbol, or times a hidden value: at most 255 of either.
                largest = _quantize(layer.weight).abs().sum(dim=(1, 2, 3)).max().item() * WEIGHT_UNIT
                largest = (largest + WEIGHT_LIMIT * WEIGHT_UNIT * 2) * LARGEST_MEAN
                if largest >= EXACT_BELOW:
                    raise ValueError(f"{name}: sums up to {largest:.0f} are not exact")

    def parameters_of(self, iteration: int) -> list[nn.Parameter]:
        """What predicts the symbols of an iteration."""
        own = list(self.networks[iteration].parameters())
        return [*own, self.mean, self.log_scale] if iteration == 0 else own


def bits(distance: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of what a logistic distribution has within half a unit of a value that far from its mean.

    With a = (1/2 - |d|) / s and b = (-1/2 - |d|) / s, sigmoid(a) - sigmoid(b) is
    sigmoid(a) sigmoid(-b) (1 - exp(-1/s)), which loses nothing however small it is.
    """
    distance = distance.float().abs()
    inverse = torch.exp2(-log_scale.float())
    inside = F.softplus((distance - 0.5) * inverse) + F.softplus(-(distance + 0.5) * inverse)
    return (inside - torch.log(-torch.expm1(-inverse))) / math.log(2)


def _known(grid: Tensor, quarter: int) -> Tensor:
    """1 at the positions of earlier quarters, (1, 1, h, w)."""
    mask = torch.zeros_like(grid[:1, :1])
    for top, left in _QUARTERS[:quarter]:
        mask[:, :, top::2, left::2] = 1
    return mask


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """A convolution without padding as plain sums of products.

    cuDNN's and NNPACK's Winograd kernels multiply by fractions, which is not exact. oneDNN, which
    torch takes on CPUs where it has it, adds products only; elsewhere a matrix product does.
    """
    onednn = torch.backends.mkldnn
    training = weight.requires_grad or x.requires_grad
    if training or (x.device.type == "cpu" and onednn.enabled and onednn.is_available()):  # type: ignore[no-untyped-call]
        return F.conv2d(x, weight, bias, stride)
    side = weight.shape[-1]
    columns = weight.flatten(1) @ F.unfold(x, side, stride=stride)
    if bias is not None:
        columns = columns + bias[:, None]
    height, width = ((length - side) // stride + 1 for length in x.shape[2:])
    return columns.view(x.shape[0], -1, height, width)


def _round(x: Tensor, unit: int = ACTIVATION_UNIT) -> Tensor:
    """To the next lower multiple of 1/unit, with the gradient of the identity."""
    rounded = torch.floor(x.detach() * unit) / unit
    return x + (rounded - x).detach() if x.requires_grad else rounded


def _quantize(weight: Tensor) -> Tensor:
    return _round(weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) + 0.5 / WEIGHT_UNIT, WEIGHT_UNIT)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
