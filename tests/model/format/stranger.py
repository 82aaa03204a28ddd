"""A decoder as a stranger would write it from FORMAT.md: nothing of rgc, torch or constriction.

Symbols in integers, pixels in float64.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Weights = dict[str, NDArray[Any]]
Integers = NDArray[np.int64]
QUARTERS = ((0, 0), (1, 1), (0, 1), (1, 0))


def read_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    assert data[:8] == bytes.fromhex("895247430D0A1A0A")
    chunks, position = [], 8
    while position < len(data):
        kind, length = struct.unpack_from(">4sI", data, position)
        payload = data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length) == (zlib.crc32(kind + payload),)
        chunks.append((kind, payload))
        position += 12 + length
    return chunks


def read_weights(path: Path) -> tuple[dict[str, Any], Weights]:
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["config"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def read_levels(data: bytes) -> list[int]:
    head = read_chunks(data)[0][1]
    return [head[17 + 7 * i] for i in range(head[10])]


def decode_symbols(data: bytes, config: dict[str, Any], weights: Weights) -> list[Integers]:
    """Those of each iteration of a file, (C, h, w)."""
    chunks = read_chunks(data)
    _, _, width, height = struct.unpack_from(">BBII", chunks[0][1])
    shape = (-(-(height + 16) // 16) * 2, -(-(width + 16) // 16) * 2)
    streams = [payload for kind, payload in chunks if kind == b"ITER"]
    symbols: list[Integers] = []
    for i, (stream, level) in enumerate(zip(streams, read_levels(data), strict=False)):
        previous = symbols[-1] if symbols else np.zeros((0, *shape), np.int64)
        groups = config["later_groups" if symbols else "first_groups"]
        symbols.append(
            decode_iteration(stream, previous, i, groups, sum(config["first_groups"]), level, weights)
        )
    return symbols


def decode_iteration(
    stream: bytes, previous: Integers, i: int, groups: list[int], first: int, q: int, weights: Weights
) -> Integers:
    codes = np.zeros((sum(groups), *previous.shape[1:]), np.int64)
    decoder = RangeDecoder(stream)
    start = 0
    previous = previous[:first]
    for g, size in enumerate(groups):
        own = codes[start : start + size]
        very_first = i == g == 0
        if very_first:
            target = own[:, ::32, ::32]
            # Q(...) in 64ths, t in 128ths: in 2^-13ths, of which 512 are a 16th
            rows = (rounded(weights[f"context.{name}"]) for name in ("mean", "log_scale"))
            mean, scale = ((first * 128 + slope * (q - 96)) // 512 for first, slope in rows)
            shape = target.shape
            mean, scale = (np.broadcast_to(v[:, None, None], shape) for v in (mean, scale))
            target[...] = decode_step(decoder, mean, scale)
            steps = [(d, k) for d in (16, 8, 4, 2, 1) for k in (1, 2, 3)]
        else:
            steps = [(1, k) for k in range(4)]
        for d, k in steps:
            grid = own[:, ::d, ::d]
            top, left = QUARTERS[k]
            target = grid[:, top::2, left::2]
            if not target.size:
                continue
            name = f"context.networks.{min(i, 1)}.{g}.{k - very_first}"
            case = d.bit_length() - 1 if very_first else max(i - 1, 0)
            if very_first:
                known, near = differences(grid, k)
            else:
                before = np.concatenate([previous, codes[:start]]) if i else edges(codes[:start], groups[0])
                channels = np.concatenate([before, seen(own, k)]) if k else before
                known, near = cut(channels, weights[f"{name}.first.weight"].shape[2], k), np.int64(0)
            mean, scale = predict(weights, name, known, size, case, q)
            target[...] = decode_step(decoder, mean + near, scale)
        start += size
    return codes


def seen(grid: Integers, k: int) -> Integers:
    """What is known of a group before its quarter k."""
    known = np.zeros_like(grid)
    for a, b in QUARTERS[:k]:
        known[:, a::2, b::2] = grid[:, a::2, b::2]
    return known


def edges(codes: Integers, first: int) -> Integers:
    """What networks of the first iteration see of earlier groups."""
    even = [c for c in (0, 3, 4) if c < first]
    across = np.pad(np.diff(codes[even], axis=2), ((0, 0), (0, 0), (1, 0)))
    down = np.pad(np.diff(codes[even], axis=1), ((0, 0), (1, 0), (0, 0)))
    return np.concatenate(
        [np.clip(across, -255, 255), np.clip(down, -255, 255), np.delete(codes, even, axis=0)]
    )


def differences(grid: Integers, k: int) -> tuple[Integers, Integers]:
    """What networks of the very first group see, and the means to which they add, in 16ths."""
    known = cut(seen(grid, k), 7, k)
    there = cut(seen(np.ones_like(grid), k), 7, k)
    offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if k == 1 else ((-1, 0), (1, 0), (0, -1), (0, 1))
    near = sum(16 * known[:, :, :, 3 + a, 3 + b] for a, b in offsets)
    near = near // sum(there[:, :, :, 3 + a, 3 + b] for a, b in offsets)
    near[[c for c in range(len(grid)) if c not in (0, 3, 4)]] = 0
    return np.clip(known - ((near + 8) // 16)[:, :, :, None, None], -255, 255) * there, near


def cut(x: Integers, side: int, k: int) -> Integers:
    """Windows around the positions of the quarter k: (C, h, w, side, side), 0 beyond the border."""
    margin, (top, left) = side // 2, QUARTERS[k]
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return windows[:, top::2, left::2]


def predict(
    weights: Weights, name: str, known: Integers, own: int, case: int, q: int
) -> tuple[Integers, Integers]:
    """Means and logarithms of scales of one step, in 16ths, from windows (C, h, w, side, side)."""

    def get(layer: str) -> Integers:
        return rounded(weights[f"{name}.{layer}"])

    def sums(layer: str) -> Integers:
        weight = get(f"{layer}.weight")
        weight = weight.reshape(len(weight), len(known), *known.shape[3:])
        total: Integers = np.einsum("cyxij,ocij->oyx", known, weight, optimize=True)
        return total

    bias = get("first.bias") + get("of_case")[case] + get("of_level") * (q - 96) // 128  # 64ths
    x = np.clip((sums("first") + bias[:, None, None]) // 4, 0, 255)
    for layer in ("second", "last"):
        products = np.einsum("cyx,oc->oyx", x, get(f"{layer}.weight")[:, :, 0, 0])
        x = (products + 16 * get(f"{layer}.bias")[:, None, None]) // 64  # of 1024ths, 16ths
        if layer == "second":
            x = np.clip(x, 0, 255)
    mean = x[:own] + (sums("linear") // 4 if f"{name}.linear.weight" in weights else 0)
    return mean, x[own:]


def rounded(weight: NDArray[Any]) -> Integers:
    return np.floor(np.clip(weight.astype(float), -255 / 64, 255 / 64) * 64 + 0.5).astype(np.int64)


T = np.floor(2**24 / (1 + np.exp(-np.arange(-8192, 8193) / 512))).astype(np.int64)


def decode_step(decoder: "RangeDecoder", mean: Integers, log_scale: Integers) -> Integers:
    """Its symbols, in the shape of `mean`, from means and logarithms of scales in 16ths."""
    flat, scale = np.clip(mean.ravel(), -255 * 16, 255 * 16), np.clip(log_scale.ravel(), -80, 96)
    middle = (flat + 8) // 16
    offset = flat - 16 * middle
    inverse = np.floor(2.0**16 / 2.0 ** (scale / 16) + 0.5).astype(np.int64)

    def f(n: int, halves: int) -> int:
        return int(T[np.clip((8 * halves - offset[n]) * inverse[n] // 2**11, -8192, 8192) + 8192])

    def bit(part: int, whole: int, low: int) -> bool:
        return decoder.bit(min(max((part << 20) // max(whole, 1), low), 2**20 - 1))

    distance = np.zeros(len(flat), np.int64)
    for n in range(len(flat)):
        distance[n] = bit(2**24 - f(n, 1) + f(n, -1), 2**24, 1)
    left = list(np.flatnonzero(distance))
    for n in left:
        part = 2**24 - f(n, 1)
        distance[n] = 1 if bit(part, part + f(n, -1), 1) else -1
    k = 1
    while left:
        beyond = []
        for n in left:
            if distance[n] > 0:
                further = bit(2**24 - f(n, 2 * k + 1), 2**24 - f(n, 2 * k - 1), 2**13)
            else:
                further = bit(f(n, -2 * k - 1), f(n, -2 * k + 1), 2**13)
            if further:
                distance[n] += np.sign(distance[n])
                beyond.append(n)
        left, k = beyond, k + 1
    return (middle + distance).reshape(mean.shape)


class RangeDecoder:
    def __init__(self, stream: bytes) -> None:
        self.words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
        self.words.reverse()
        self.lower, self.range, self.point = 0, 2**64 - 1, 0
        for _ in range(2):
            self.point = self.point << 32 | self.word()

    def word(self) -> int:
        return self.words.pop() if self.words else 0

    def bit(self, one: int) -> bool:
        zero = ((2**20 - one) * (2**24 - 2) >> 20) + 1
        scale = self.range >> 24
        bit = (self.point - self.lower) % 2**64 // scale >= zero
        self.lower = (self.lower + scale * zero * bit) % 2**64
        self.range = scale * (2**24 - zero if bit else zero)
        if self.range < 2**32:
            self.range <<= 32
            self.lower = (self.lower << 32) % 2**64
            self.point = (self.point << 32) % 2**64 | self.word()
        return bool(bit)


def decode_pixels(data: bytes, config: dict[str, Any], weights: Weights) -> NDArray[np.uint8]:
    """(H, W, 3) of a whole file in RGB."""
    _, colour, width, height, _ = struct.unpack_from(">BBIIB", read_chunks(data)[0][1])
    assert colour == 0
    first, later = Network(weights, "first_decoder"), Network(weights, "later_decoder")
    pixels: Any = 0.5
    for i, symbols in enumerate(decode_symbols(data, config, weights)):
        t = (read_levels(data)[i] - 96) / 128
        blocks, largest = columns(len(symbols))
        gain = np.exp(interpolate(weights[f"log_gain.{i}"], t))
        values = symbols / (gain if i else np.minimum(gain, 255 / largest))
        linear = up(np.tensordot(blocks, values, axes=(0, 0)), 8)
        if i == 0:
            correction, state = first_image(first, values, linear, t)
        else:
            correction, state = later_residual(later, values, pixels, state, t, i - 1)
        pixels = pixels + linear + correction * np.exp(interpolate(weights[f"log_step.{i}"], t))
    image = np.clip(np.round(pixels[:, 8 : 8 + height, 8 : 8 + width] * 255), 0, 255)
    return image.transpose(1, 2, 0).astype(np.uint8)


def columns(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a symbol of each channel adds to a block of pixels (n, 192), and how large it can be (n, 1, 1)."""
    colours = np.linalg.inv([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    rows = np.cos(np.pi * (np.arange(8) + 0.5) * np.arange(8)[:, None] / 8) / 2
    rows[0] = np.sqrt(1 / 8)
    channels = []
    for c in range(3):
        for u in range(8):
            for v in range(8):
                rank = 1 + 2 * (u + v) if c else u + v
                step = (16 + 3 * rank if rank else 24) / 255
                block = colours[:, c, None] * np.outer(rows[u], rows[v]).ravel() * step
                largest = np.abs(rows[u]).sum() * np.abs(rows[v]).sum() / (2 * step)
                channels.append(((rank, c, u, v), block.ravel(), largest))
    channels = sorted(channels, key=lambda channel: channel[0])[:n]
    return np.array([block for _, block, _ in channels]), np.array([[[size]] for *_, size in channels])


class Network:
    """Layers by name."""

    def __init__(self, weights: Weights, name: str) -> None:
        self.weights, self.name = weights, name

    def get(self, name: str) -> NDArray[Any]:
        return self.weights[f"{self.name}.{name}"].astype(float)

    def conv(self, x: NDArray[Any], layer: str) -> NDArray[Any]:
        weight = self.get(f"{layer}.weight")
        margin = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
        y = np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4]))
        bias = self.weights.get(f"{self.name}.{layer}.bias")
        return y if bias is None or bias.ndim > 1 else y + bias.astype(float)[:, None, None]

    def blocks(self, x: NDArray[Any], layer: str) -> NDArray[Any]:
        for number in (0, 1):
            change = leaky(self.conv(x, f"{layer}.{number}.first"))
            x = x + self.conv(change, f"{layer}.{number}.second")
        return x


def first_image(
    net: Network, values: NDArray[Any], linear: NDArray[Any], t: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    x = net.conv(values, "from_symbols") + interpolate(net.get("level_eighth"), min(max(t, 0), 1))
    c = net.blocks(net.conv(down(x, 2), "to_sixteenth"), "sixteenth")
    x = x + up(net.conv(c, "from_sixteenth"), 2)
    x = up(net.conv(net.blocks(x, "eighth"), "to_quarter"), 2) + interpolate(
        net.get("level_quarter"), min(max(t, 0), 1)
    )
    features = net.blocks(x + net.conv(down(linear, 4), "from_linear"), "quarter")
    return up(net.conv(features, "to_pixels"), 4), np.tanh(features)


def later_residual(
    net: Network, values: NDArray[Any], pixels: NDArray[Any], state: NDArray[Any], t: float, j: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    x = up(net.conv(values, "from_symbols"), 2) + net.conv(down(pixels - 0.5, 4), "from_reconstruction")
    x = x + interpolate(net.get("level")[j], min(max(t, 0), 1))
    gates = net.conv(x, "gru.from_input") + net.get("gru.bias")[j][:, None, None]
    (z, r, a), (z2, r2, a2) = np.split(gates, 3), np.split(net.conv(state, "gru.from_hidden"), 3)
    state = state + sigmoid(z + z2) * (np.tanh(a + sigmoid(r + r2) * a2) - state)
    return up(net.conv(net.blocks(x + state, "blocks"), "to_pixels"), 4), state


def interpolate(anchors: NDArray[Any], t: float) -> NDArray[Any]:
    row = min(max(int(4 * t), 0), 3)
    share = 4 * t - row
    between = anchors[row].astype(float) * (1 - share) + anchors[row + 1].astype(float) * share
    return between[:, None, None]


def down(x: NDArray[Any], n: int) -> NDArray[Any]:
    channels, height, width = x.shape
    squares = x.reshape(channels, height // n, n, width // n, n)
    return squares.transpose(0, 2, 4, 1, 3).reshape(channels * n * n, height // n, width // n)


def up(x: NDArray[Any], n: int) -> NDArray[Any]:
    channels, height, width = x.shape
    squares = x.reshape(channels // n**2, n, n, height, width)
    return squares.transpose(0, 3, 1, 4, 2).reshape(channels // n**2, height * n, width * n)


def leaky(x: NDArray[Any]) -> NDArray[Any]:
    return np.where(x < 0, x / 10, x)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))
