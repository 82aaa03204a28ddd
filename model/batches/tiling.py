"""Networks over images of any size in bounded memory, without seams."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.format.limits import STRIDE

# Pixels of a batch up to which one thread runs the network. How oneDNN orders a convolution's sums over few
# positions depends on the number of threads; codes and pixels shall not. (Seen up to 64 positions at 1/16.)
_SMALL = 1 << 16


class _Span(NamedTuple):
    """Where a tile lies on one axis, in pixels: `start` to `stop` counts, with its halo `first` to `last`."""

    first: int
    start: int
    stop: int
    last: int


def run_tiled(
    network: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    tile: int,
    halo: int,
    first_stride: int = 1,
) -> Sequence[Tensor]:
    """Runs a fully convolutional network, tile by tile where the image is larger than one.

        |<-------- last -------->|
        | halo |  counts  | halo |       Each tile is computed with a halo as wide as the network
                   | halo |  counts  |   sees, so what counts of it is what the whole image would give.

    Args:
        network: takes tensors at any mixture of strides (1, 4, 8, 16) and gives such tensors.
        inputs: (N, C, H / stride, W / stride); None stays None.
        tile: side of what counts, in pixels; a multiple of 16.
        halo: how far the network sees, in pixels; a multiple of 16.
        first_stride: of the first input, in pixels.
    """
    first = inputs[0]
    assert first is not None
    height, width = (side * first_stride for side in first.shape[-2:])
    if height <= tile + 2 * halo and width <= tile + 2 * halo:
        return _run(network, inputs, len(first) * height * width)
    outputs: list[Tensor] = []
    for rows in _spans(height, tile, halo):
        for columns in _spans(width, tile, halo):
            cut = [None if x is None else _halo_cut(x, height, rows, columns) for x in inputs]
            pixels = len(first) * (rows.last - rows.first) * (columns.last - columns.first)
            for i, part in enumerate(_run(network, cut, pixels)):
                stride = (rows.last - rows.first) // part.shape[-2]
                if i == len(outputs):
                    shape = (*part.shape[:2], height // stride, width // stride)
                    layout = torch.contiguous_format if stride == 1 else torch.channels_last
                    outputs.append(part.new_empty(shape).contiguous(memory_format=layout))
                target = outputs[i][
                    :, :, rows.start // stride : rows.stop // stride,
                    columns.start // stride : columns.stop // stride,
                ]  # fmt: skip
                top, left = (rows.start - rows.first) // stride, (columns.start - columns.first) // stride
                target.copy_(part[:, :, top : top + target.shape[2], left : left + target.shape[3]])
    return outputs


def _run(
    network: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor | None], pixels: int
) -> Sequence[Tensor]:
    threads = torch.get_num_threads()
    if small := pixels <= _SMALL:
        torch.set_num_threads(1)
    try:
        return network(*inputs)
    finally:
        if small:
            torch.set_num_threads(threads)


def _spans(length: int, tile: int, halo: int) -> Iterator[_Span]:
    assert tile % STRIDE == length % STRIDE == halo % STRIDE == 0
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield _Span(max(start - halo, 0), start, stop, min(stop + halo, length))


def _halo_cut(x: Tensor, height: int, rows: _Span, columns: _Span) -> Tensor:
    stride = height // x.shape[-2]
    return x[
        :, :, rows.first // stride : rows.last // stride, columns.first // stride : columns.last // stride
    ]
