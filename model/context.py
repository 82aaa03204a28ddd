"""The context model: how likely each symbol of the code is, exactly the same on every machine.

An arithmetic decoder that is fed one different probability produces garbage from there on, and
floating-point networks differ in the last place between machines. So every value in here is a
dyadic rational: weights are multiples of 1/64, activations of 1/16, and all sums stay far below
2**24 of their unit, where float32 addition is exact in any order. See "Integer networks for data
compression with latent-variable models" (Ballé, Johnston and Minnen, ICLR 2019).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_UNIT = 64
WEIGHT_LIMIT = 255 / WEIGHT_UNIT  # 8 bits: exact even where a process lets float32 run as bfloat16
ACTIVATION_UNIT = 16
_LARGEST_ACTIVATION = 255  # in its unit
LARGEST_MEAN = 255
LOG_SCALES = (
    -5 * ACTIVATION_UNIT,
    6 * ACTIVATION_UNIT,
)  # of log2 of a scale, in units of 1/16
EXACT_BELOW = 1 << 24  # integers that float32 holds
LEVELS = 5  # grids of doubling stride that the very first group is coded in
WIDE_GROUPS = 2  # the first groups of the first iteration, whose networks see 5x5 positions; others 3x3
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


@dataclass(frozen=True)
class StepWeights:
    """A `StepNetwork`'s weights as they are computed with.

    Attributes:
        first, second, last, linear: kernels; the first layer's and the linear one's times 16, so that
            activations come in units of 1/16.
        bias, of_level: of the first layer, in units of 1/64: (cases, hidden), (hidden,).
        second_bias, last_bias: in units of 1/16.
    """

    first: Tensor
    bias: Tensor
    of_level: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor
    linear: Tensor | None


class StepNetwork(nn.Module):
    """Mean and scale of a step's symbols from known ones, in a few layers of integers.

        known, around ───── conv ── clamp ── 1x1 ── clamp ── 1x1 ── log2 of scale
                own group ── linear conv ───────────────────── + ── mean

    Biases follow the gain's level, and the case: of the very first group the grid, else the iteration.
    """

    def __init__(self, earlier: int, own: int, sees_own: bool, hidden: int, cases: int, kernel: int) -> None:
        super().__init__()
        self.own = own
        self.first = nn.Conv2d(earlier + own * sees_own, hidden, kernel)
        self.of_level = nn.Parameter(torch.zeros(hidden))
        self.of_case = nn.Parameter(torch.zeros(cases, hidden))
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * own, 1)
        self.linear = nn.Conv2d(own, own, kernel, bias=False) if sees_own else None
        self.kept: StepWeights | None = None
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.weight.mul_(0.3)
            if self.linear is not None:
                self.linear.weight.mul_(0.1)

    def quantized(self) -> StepWeights:
        """Of the weights as they are now."""
        unit = ACTIVATION_UNIT
        return StepWeights(
            first=_quantize(self.first.weight) * unit,
            bias=(_quantize(_bias(self.first)) + _quantize(self.of_case)) * WEIGHT_UNIT,
            of_level=_quantize(self.of_level) * WEIGHT_UNIT,
            second=_quantize(self.second.weight),
            second_bias=_quantize(_bias(self.second)) * unit,
            last=_quantize(self.last.weight),
            last_bias=_quantize(_bias(self.last)) * unit,
            linear=None if self.linear is None else _quantize(self.linear.weight) * unit,
        )

    def forward(self, known: Tensor, level: Tensor, case: int) -> tuple[Tensor, Tensor]:
        """Means (N, own, h, w) and log2 of scales, integers in units of 1/16.

        Args:
            known: (N, C, h', w') symbols, the own group's last if any is known, 0 where not known;
                padded, and cut so that the first output is the step's first position.
            level: of the gain, (N,), float32 multiples of 1/128 from -3/4.
            case: log2 of the grid's stride; of later iterations, how many came before, less one.
        """
        weights = self.kept or self.quantized()
        bias = torch.addcmul(weights.bias[case], level[:, None], weights.of_level)
        bias = _floor(bias) * (ACTIVATION_UNIT / WEIGHT_UNIT)
        x = _convolution(known, weights.first, None, 2)
        x = _floor(x + bias[:, :, None, None].to(x.dtype)).clamp(0, _LARGEST_ACTIVATION)
        x = _floor(_convolution(x, weights.second, weights.second_bias, 1)).clamp(0, _LARGEST_ACTIVATION)
        mean, log_scale = _floor(_convolution(x, weights.last, weights.last_bias, 1).float()).chunk(2, dim=1)
        if weights.linear is not None:
            with torch.autocast(known.device.type, enabled=False):
                own = known[:, -self.own :].float()
                mean = mean + _floor(_convolution(own, weights.linear, None, 2))
        limit = LARGEST_MEAN * ACTIVATION_UNIT
        return mean.clamp(-limit, limit), log_scale.clamp(*LOG_SCALES)


class ContextModel(nn.Module):
    """Predicts each iteration's symbols in a few steps, all positions of a step at once.

    An iteration's channels are cut into groups. Each group is coded in four passes over a quarter of
    the positions, and sees what is known: the iteration before, earlier groups, earlier quarters.
    The iterations after the first share their networks.

        0 2 0 2
        3 1 3 1
        0 2 0 2

    Before the very first group nothing is known. So its quarter 0 is coded as a grid of twice the stride,
    in quarters too, and so on: nothing is paid twice where nothing changes.

    Args:
        first, later: sizes of the groups of the first iteration and of each later one, which has no fewer
            symbols. Of the iteration before it, it sees as many as the first iteration has.
        iterations: how many there are.
        hidden: width of each step's network.

    Raises:
        ValueError: later iterations have fewer symbols.
    """

    def __init__(self, first: Sequence[int], later: Sequence[int], iterations: int, hidden: int) -> None:
        super().__init__()
        if sum(first) > sum(later):
            raise ValueError(f"{sum(first)} symbols in the first iteration, {sum(later)} in later ones")
        self.groups = [first, *[later] * (iterations - 1)]
        self.networks = nn.ModuleList()
        for iteration, sizes in enumerate(self.groups[:2]):
            of_iteration = nn.ModuleList()
            for group, own in enumerate(sizes):
                very_first = iteration == group == 0
                earlier, kernel = sum(first) * iteration + sum(sizes[:group]), _kernel(iteration, group)
                cases = LEVELS if very_first else iterations - 1 if iteration else 1
                of_iteration.append(
                    nn.ModuleList(
                        StepNetwork(earlier, own, quarter > 0, hidden, cases, kernel)
                        for quarter in range(very_first, 4)
                    )
                )
            self.networks.append(of_iteration)
        own = first[0]
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

    @torch.no_grad()
    def keep_quantized(self) -> None:
        """Quantizes the weights once and for all, on the device where they are now; not while training."""
        for network in self.modules():
            if isinstance(network, StepNetwork):
                live = network.quantized()
                # As rows of a matrix lie; else each of a GPU's products would copy them first.
                linear = None if live.linear is None else live.linear.contiguous()
                network.kept = replace(live, first=live.first.contiguous(), linear=linear)

    def predict(
        self, step: Step, previous: Tensor | None, codes: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and log2 of scales of a step's symbols, integers in units of 1/16.

        Each is in the shape of `Step.symbols`.

        Args:
            previous: symbols of the iteration before (N, C, h, w); None in the first.
            codes: symbols of this one (N, C, h, w); those of later steps have no influence.
            level: of the gain, (N,).
        """
        shape = step.symbols(codes).shape
        if step.first_of_all:
            both = _quantize(self.mean), _quantize(self.log_scale)
            mean, log_scale = (
                _floor((start + level[:, None] * slope) * ACTIVATION_UNIT)[:, :, None, None]
                for start, slope in both
            )
            return mean.expand(shape), log_scale.clamp(*LOG_SCALES).expand(shape)
        if 0 in shape:
            return codes.new_zeros(shape), codes.new_zeros(shape)
        if previous is not None:
            previous = previous[:, : sum(self.groups[0])]
        network, case = self._network(step)
        return cast(tuple[Tensor, Tensor], network(_known(step, previous, codes), level, case))

    def _network(self, step: Step) -> tuple[nn.Module, int]:
        """What predicts a step, and its case."""
        of_iteration = cast(nn.ModuleList, self.networks[min(step.iteration, 1)])
        networks = cast(nn.ModuleList, of_iteration[step.group])
        if step.iteration == step.group == 0:
            return networks[step.quarter - 1], step.stride.bit_length() - 1
        return networks[step.quarter], max(step.iteration - 1, 0)

    def rate(
        self, iteration: int, previous: Tensor | None, codes: Tensor, noisy: Tensor, level: Tensor
    ) -> Tensor:
        """Bits that an iteration of each image costs, (N,), for training.

        Args:
            previous, codes, level: as in `predict`.
            noisy: values before rounding, with uniform noise, in the shape of `codes`.
        """
        costs = []
        for step in self.steps(iteration):
            mean, log_scale = self.predict(step, previous, codes, level)
            mean, log_scale = mean / ACTIVATION_UNIT, log_scale / ACTIVATION_UNIT
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
        own = list(self.networks[min(iteration, 1)].parameters())
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


def _kernel(iteration: int, group: int) -> int:
    return 5 if iteration == 0 and group < WIDE_GROUPS else 3


def _known(step: Step, previous: Tensor | None, codes: Tensor) -> Tensor:
    """What a step's network sees: (N, C, h', w'), 0 beyond the border and where nothing is known yet."""
    grid = codes[:, : step.stop, :: step.stride, :: step.stride]
    before = 0 if previous is None else previous.shape[1]
    outputs = step.symbols(codes).shape[2:]
    kernel = _kernel(step.iteration, step.group)
    sides = (2 * (n - 1) + kernel for n in outputs)
    seen = before + (step.stop if step.quarter else step.start)
    known = codes.new_zeros(len(codes), seen, *sides)
    top, left = _QUARTERS[step.quarter]
    inside = known[:, :, kernel // 2 - top :, kernel // 2 - left :][:, :, : grid.shape[2], : grid.shape[3]]
    grid = grid[:, :, : inside.shape[2], : inside.shape[3]]
    if previous is not None:
        inside[:, :before] = previous[:, :, : inside.shape[2], : inside.shape[3]]
    inside[:, before : before + step.start] = grid[:, : step.start]
    for top, left in _QUARTERS[: step.quarter]:
        inside[:, before + step.start :, top::2, left::2] = grid[:, step.start :, top::2, left::2]
    return known


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
    columns = x.flatten(2) if side == 1 else F.unfold(x, side, stride=stride)
    products = weight.flatten(1) @ columns
    if bias is not None:
        products = products + bias[:, None]
    height, width = ((length - side) // stride + 1 for length in x.shape[2:])
    return products.view(x.shape[0], -1, height, width)


def _floor(x: Tensor) -> Tensor:
    """To the next lower integer, with the gradient of the identity."""
    return x + (torch.floor(x.detach()) - x).detach() if x.requires_grad else torch.floor(x)


def _quantize(weight: Tensor) -> Tensor:
    """To the nearest multiple of 1/64, with the gradient of the identity within the limits."""
    return _floor(weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) * WEIGHT_UNIT + 0.5) / WEIGHT_UNIT


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
