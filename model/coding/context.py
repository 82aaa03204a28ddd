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

from model.canvas import Extents
from model.coding.limits import ACTIVATION_UNIT, LARGEST_MEAN, LOG_SCALES
from model.coding.steps import CODE_STRIDE, LEVELS, Known, Step, of_nearest
from model.transform import frequencies

WEIGHT_UNIT = 64
WEIGHT_LIMIT = 255 / WEIGHT_UNIT  # 8 bits: exact even where a process lets float32 run as bfloat16
_LARGEST_ACTIVATION = 255  # in its unit
EXACT_BELOW = 1 << 24  # integers that float32 holds
_LARGEST_DIFFERENCE = 255  # 8 bits, as of weights


@dataclass(frozen=True)
class StepWeights:
    """A `StepNetwork`'s weights as they are computed with.

    Attributes:
        first, second, last, linear: kernels; the first layer's and the linear one's times 16, so that
            activations come in units of 1/16, and 0 where symbols of later steps are.
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

        known, around ── conv ── clamp ── 1x1 ── clamp ── 1x1 ── log2 of scale
                  └───── linear conv, of the very first group ── + ── mean

    Biases follow the gain's level, and the case: of the very first group the grid, else the iteration.

    Args:
        step: one of those that it is for.
        earlier: channels of what it sees beside the step's group.
    """

    units: Tensor  # of what is seen: 1/16, or none where symbols of later steps are

    def __init__(self, step: Step, earlier: int, hidden: int, cases: int) -> None:
        super().__init__()
        own = step.stop - step.start
        units = ACTIVATION_UNIT * step.is_known().expand(own if step.quarter else 0, -1, -1)
        if step.very_first:  # windows come as columns
            units, self.stride = units.reshape(-1, 1, 1), 1
        else:
            whole = torch.full((earlier, step.kernel, step.kernel), ACTIVATION_UNIT)
            units, self.stride = torch.cat([whole, units]), 2
        self.register_buffer("units", units, persistent=False)
        seen, kernel = units.shape[:2]
        self.first = nn.Conv2d(seen, hidden, kernel)
        self.of_level = nn.Parameter(torch.zeros(hidden))
        self.of_case = nn.Parameter(torch.zeros(cases, hidden))
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * own, 1)
        self.linear = nn.Conv2d(seen, own, kernel, bias=False) if step.very_first else None
        self.kept: StepWeights | None = None
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.weight.mul_(0.3)
            if self.linear is not None:
                self.linear.weight.zero_()

    def quantized(self) -> StepWeights:
        """Of the weights as they are now."""
        unit = ACTIVATION_UNIT
        return StepWeights(
            first=_quantize(self.first.weight) * self.units,
            bias=(_quantize(_bias(self.first)) + _quantize(self.of_case)) * WEIGHT_UNIT,
            of_level=_quantize(self.of_level) * WEIGHT_UNIT,
            second=_quantize(self.second.weight),
            second_bias=_quantize(_bias(self.second)) * unit,
            last=_quantize(self.last.weight),
            last_bias=_quantize(_bias(self.last)) * unit,
            linear=None if self.linear is None else _quantize(self.linear.weight) * self.units,
        )

    def forward(self, known: Tensor, level: Tensor, case: int) -> tuple[Tensor, Tensor]:
        """Means (N, own, h, w) and log2 of scales, integers in units of 1/16.

        Args:
            known: (N, C, h', w') what `Known.around` or `_differences` gives.
            level: of the gain, (N,), float32 multiples of 1/128 from -3/4.
            case: log2 of the grid's stride; of later iterations, how many came before, less one.
        """
        weights = self.kept or self.quantized()
        bias = torch.addcmul(weights.bias[case], level[:, None], weights.of_level)
        x = _convolution(known, weights.first, None, self.stride)
        bias = _floor(bias)[:, :, None, None].to(x.dtype)
        x = torch.add(x, bias, alpha=ACTIVATION_UNIT / WEIGHT_UNIT)
        x = _floor(x).clamp(0, _LARGEST_ACTIVATION)
        x = _floor(_convolution(x, weights.second, weights.second_bias, 1)).clamp(0, _LARGEST_ACTIVATION)
        mean, log_scale = _floor(_convolution(x, weights.last, weights.last_bias, 1).float()).chunk(2, dim=1)
        if weights.linear is not None:
            with torch.autocast(known.device.type, enabled=False):
                mean = mean + _floor(_convolution(known.float(), weights.linear, None, 1))
        return mean, log_scale


class ContextModel(nn.Module):
    """Predicts each iteration's symbols in a few steps, all positions of a step at once.

    An iteration's channels are cut into groups. Each group is coded in four passes over a quarter of
    the positions, and sees what is known: the iteration before, earlier groups, earlier quarters.
    The iterations after the first share their networks.

        0 2 0 2
        3 1 3 1
        0 2 0 2

    Before the very first group nothing is known. So its quarter 0 is coded as a grid of twice the stride,
    in quarters too, and so on: nothing is paid twice where nothing changes. The mean of its symbols of
    frequency 0, brightness and colour, is that of their nearest neighbours and what the network adds, and
    networks of the first iteration see differences of these only: one colour is like another.

    Args:
        first, later: sizes of the groups of the first iteration and of each later one, which has no fewer
            symbols. Of the iteration before it, it sees as many as the first iteration has.
        iterations: how many there are.
        hidden: widths of the networks of the first iteration and of later ones.

    Raises:
        ValueError: later iterations have fewer symbols.
    """

    even: Tensor
    uneven: Tensor
    units: Tensor  # of a mean of neighbours: 1/16, or none in channels where it is 0

    def __init__(
        self, first: Sequence[int], later: Sequence[int], iterations: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        if sum(first) > sum(later):
            raise ValueError(f"{sum(first)} symbols in the first iteration, {sum(later)} in later ones")
        self.groups = [first, *[later] * (iterations - 1)]
        # Channels of frequency 0 in the very first group, and its others.
        is_even = torch.tensor(frequencies(sum(first))[: first[0]]) == 0
        self.register_buffer("even", is_even.nonzero().flatten(), persistent=False)
        self.register_buffer("uneven", (~is_even).nonzero().flatten(), persistent=False)
        self.register_buffer("units", (is_even * float(ACTIVATION_UNIT))[:, None, None], persistent=False)
        self.networks = nn.ModuleList()
        for iteration, sizes in enumerate(self.groups[:2]):
            of_iteration, width = nn.ModuleList(), hidden[iteration]
            for group in range(len(sizes)):
                steps = [s for s in self.steps(iteration) if s.group == group and s.stride == 1]
                cases = LEVELS if steps[0].very_first else iterations - 1 if iteration else 1
                earlier = sum(sizes[:group]) + (sum(first) if iteration else len(self.even))
                of_iteration.append(nn.ModuleList(StepNetwork(step, earlier, width, cases) for step in steps))
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

    def known(
        self, iteration: int, previous: Tensor | None, codes: Tensor, extents: Extents | None = None
    ) -> Known:
        """What an iteration's steps see.

        Args:
            previous: symbols of the iteration before (N, C, h, w); None in the first.
            codes: symbols of this one (N, C, h, w), or zeros; see `Known`.
            extents: of photos of different sizes, beside which all symbols are 0.
        """
        if previous is not None:
            before = previous[:, : sum(self.groups[0])]
            return Known(codes, 0, lambda: before)
        first = self.groups[0][0]
        inside = None if extents is None else extents.inside_at(CODE_STRIDE).to(codes.dtype)
        return Known(codes, first, lambda: self._edges(codes[:, :first], inside), inside)

    def predict(self, step: Step, known: Known, level: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log2 of scales of a step's symbols, integers in units of 1/16.

        Each is in the shape of `Step.symbols`. Symbols of the step itself and of later ones have no
        influence.

        Args:
            known: of the step's iteration.
            level: of the gain, (N,).
        """
        symbols = known.symbols(step)
        if step.first_of_all:
            start, slope = _quantize(torch.stack([self.mean, self.log_scale], dim=1))
            both = _floor((start + level[:, None, None] * slope) * ACTIVATION_UNIT)[..., None, None]
            mean, log_scale = both.unbind(1)
            return mean.expand_as(symbols), log_scale.clamp(*LOG_SCALES).expand_as(symbols)
        if not symbols.numel():
            return torch.zeros_like(symbols), torch.zeros_like(symbols)
        network, case = self._network(step)
        if step.very_first:
            seen, near = self._differences(step, known)
            mean, log_scale = cast(tuple[Tensor, Tensor], network(seen, level, case))
            mean = near + mean
        else:
            mean, log_scale = cast(tuple[Tensor, Tensor], network(known.around(step), level, case))
        limit = LARGEST_MEAN * ACTIVATION_UNIT
        return mean.clamp(-limit, limit), log_scale.clamp(*LOG_SCALES)

    def _differences(self, step: Step, known: Known) -> tuple[Tensor, Tensor]:
        """What a network of the very first group sees: (N, own * window, h', w'), and means to which it adds.

        Means, in units of 1/16, are those of the nearest known neighbours in `even`'s channels, whose symbols
        are seen as differences to them, and 0 in others.
        """
        windows, there = known.windows(step)
        total, count = of_nearest(step, windows), of_nearest(step, there)
        # Half a unit more, so that no quotient is near an integer: any division gives the same.
        near = _floor((total * self.units + 0.5) / count)
        difference = windows - _floor(near / ACTIVATION_UNIT + 0.5)[:, :, None, None]
        difference = difference.clamp(-_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE) * there
        return difference.flatten(1, 3), near

    def _edges(self, very_first: Tensor, inside: Tensor | None) -> Tensor:
        """What other groups of the first iteration see of the very first (N, C, h, w)."""
        even = very_first[:, self.even]
        across, down = F.pad(even.diff(dim=3), (1, 0, 0, 0)), F.pad(even.diff(dim=2), (0, 0, 1, 0))
        steps = torch.cat([across, down], dim=1).clamp(-_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE)
        if inside is not None:
            steps = steps * inside
        return torch.cat([steps, very_first[:, self.uneven]], dim=1)

    def _network(self, step: Step) -> tuple[nn.Module, int]:
        """What predicts a step, and its case."""
        of_iteration = cast(nn.ModuleList, self.networks[min(step.iteration, 1)])
        networks = cast(nn.ModuleList, of_iteration[step.group])
        if step.very_first:
            return networks[step.quarter - 1], step.stride.bit_length() - 1
        return networks[step.quarter], max(step.iteration - 1, 0)

    def rate(
        self, iteration: int, previous: Tensor | None, codes: Tensor, noisy: Tensor, level: Tensor
    ) -> Tensor:
        """Bits that an iteration of each image costs, (N,), for training.

        Args:
            previous, codes, level: as in `known` and `predict`.
            noisy: values before rounding, with uniform noise, in the shape of `codes`.
        """
        costs, known = [], self.known(iteration, previous, codes)
        for step in self.steps(iteration):
            mean, log_scale = self.predict(step, known, level)
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
