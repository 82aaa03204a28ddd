"""A decoder as a stranger would write it from FORMAT.md: nothing of rgc, torch or constriction.

Bits in integers, pixels in float64.
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


def decode_bits(data: bytes, config: dict[str, Any], weights: Weights) -> NDArray[np.int64]:
    """All bits of a file, (C, h, w) of -1 and +1."""
    chunks = read_chunks(data)
    _, _, width, height = struct.unpack_from(">BBII", chunks[0][1])
    shape = (-(-height // 16) * 2, -(-width // 16) * 2)
    counts = [config["coarse_bits"]] * config["coarse_iterations"]
    counts += [config["fine_bits"]] * config["fine_iterations"]
    codes = np.zeros((0, *shape), np.int64)
    for iteration, stream in enumerate(payload for kind, payload in chunks if kind == b"ITER"):
        codes = decode_iteration(
            stream, codes, iteration, counts[iteration], config["context_groups"], weights
        )
    return codes


def decode_iteration(
    stream: bytes, earlier: NDArray[np.int64], iteration: int, bits: int, groups: int, weights: Weights
) -> NDArray[np.int64]:
    before, group = len(earlier), bits // groups
    codes = np.concatenate([earlier, np.zeros((bits, *earlier.shape[1:]), np.int64)])
    decoder = RangeDecoder(stream)
    places = [(0, 0, 2), (1, 1, 2), (0, 1, 2), (1, 0, 2)] if iteration == 0 else [(0, 0, 1)]
    for k in range(len(places) * groups):
        top, left, stride = places[k // groups]
        start = before + k % groups * group
        seen = len(codes) if iteration == 0 else start
        known = codes[:seen] if iteration or k else np.zeros((1, *codes.shape[1:]), np.int64)
        values = logits(weights, f"{iteration}.{k}", known, top, left, stride)
        symbols = [decoder.symbol(int(ONE[value + 160])) for value in values.ravel()]
        target = codes[start : start + group, top::stride, left::stride]
        target[...] = np.array(symbols).reshape(target.shape) * 2 - 1
    return codes


def logits(
    weights: Weights, step: str, known: NDArray[np.int64], top: int, left: int, stride: int
) -> NDArray[np.int64]:
    """Of one step, in 16ths."""
    w1, b1 = (rounded(weights[f"context.neighbours.{step}.{kind}"]) for kind in ("weight", "bias"))
    w2, b2 = (rounded(weights[f"context.logits.{step}.{kind}"]) for kind in ("weight", "bias"))
    padded = np.pad(known, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    sums = np.einsum("cyxij,ocij->oyx", windows[:, top::stride, left::stride], w1) + b1[:, None, None]
    hidden = np.clip(sums // 4, 0, 255)  # of 64ths, 16ths
    sums = np.einsum("cyx,oc->oyx", hidden, w2[:, :, 0, 0]) + 16 * b2[:, None, None]
    return np.clip(sums // 64, -160, 160)  # of 1024ths, 16ths


def rounded(weight: NDArray[Any]) -> NDArray[np.int64]:
    return np.floor(np.clip(weight.astype(float), -255 / 64, 255 / 64) * 64 + 0.5).astype(np.int64)


# 2^20 p(+1) for logits -160/16 .. 160/16
ONE = np.floor(2**20 / (1 + np.exp(-np.arange(-160, 161) / 16))).astype(int)


class RangeDecoder:
    def __init__(self, stream: bytes) -> None:
        self.words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
        self.lower, self.range, self.point = 0, 2**64 - 1, 0
        for _ in range(2):
            self.point = self.point << 32 | self.word()

    def word(self) -> int:
        return self.words.pop(0) if self.words else 0

    def symbol(self, one: int) -> int:
        zero = ((2**20 - one) * (2**24 - 2) >> 20) + 1
        scale = self.range >> 24
        bit = (self.point - self.lower) % 2**64 // scale >= zero
        self.lower = (self.lower + scale * zero * bit) % 2**64
        self.range = scale * (2**24 - zero if bit else zero)
        if self.range < 2**32:
            self.range <<= 32
            self.lower = (self.lower << 32) % 2**64
            self.point = (self.point << 32) % 2**64 | self.word()
        return int(bit)


def decode_pixels(data: bytes, config: dict[str, Any], weights: Weights) -> NDArray[np.uint8]:
    """(H, W, 3) of a whole file in RGB."""
    chunks = read_chunks(data)
    _, colour, width, height, iterations = struct.unpack_from(">BBIIB", chunks[0][1])
    assert colour == 0
    codes = decode_bits(data, config, weights).astype(float)
    pixels = np.full((3, codes.shape[1] * 8, codes.shape[2] * 8), 0.5)
    coarse = Network(weights, "coarse.decoder")
    fine = Network(weights, "fine.decoder")
    for i in range(iterations):
        if (j := i - config["coarse_iterations"]) < 0:
            bits, codes = np.split(codes, [config["coarse_bits"]])
            pixels = pixels + coarse_residual(coarse, bits, pixels, i) / np.exp(
                float(weights["coarse.log_gain"][i])
            )
        else:
            bits, codes = np.split(codes, [config["fine_bits"]])
            pixels = pixels + fine_residual(fine, bits, pixels, j) / np.exp(
                float(weights["fine.log_gain"][j])
            )
    image = np.clip(np.round(pixels[:, :height, :width] * 255), 0, 255)
    return image.transpose(1, 2, 0).astype(np.uint8)


class Network:
    """Layers by name, and the hidden states of its GRUs."""

    def __init__(self, weights: Weights, name: str) -> None:
        self.weights, self.name = weights, name
        self.hidden: dict[str, NDArray[Any]] = {}

    def conv(self, x: NDArray[Any], layer: str) -> NDArray[Any]:
        weight = self.weights[f"{self.name}.{layer}.weight"].astype(float)
        margin = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
        y = np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4]))
        bias = self.weights.get(f"{self.name}.{layer}.bias")
        return y if bias is None else y + bias.astype(float)[:, None, None]

    def block(self, x: NDArray[Any], layer: str) -> NDArray[Any]:
        return x + self.conv(leaky(self.conv(x, f"{layer}.first")), f"{layer}.second")

    def gru(self, x: NDArray[Any], layer: str, number: int) -> NDArray[Any]:
        bias = self.weights[f"{self.name}.{layer}.bias"][number].astype(float)
        z, q, a = np.split(self.conv(x, f"{layer}.from_input") + bias[:, None, None], 3)
        if number == 0:
            hidden = sigmoid(z) * np.tanh(a)
        else:
            hidden = self.hidden[layer]
            z2, q2, a2 = np.split(self.conv(hidden, f"{layer}.from_hidden"), 3)
            hidden = hidden + sigmoid(z + z2) * (np.tanh(a + sigmoid(q + q2) * a2) - hidden)
        self.hidden[layer] = hidden
        return x + hidden


def coarse_residual(net: Network, bits: NDArray[Any], pixels: NDArray[Any], i: int) -> NDArray[Any]:
    x = net.conv(bits, f"from_bits.{i}")
    c = net.gru(net.conv(down(x, 2), "to_sixteenth"), "gru_sixteenth", i)
    x = x + up(net.conv(c, "from_sixteenth"), 2)
    x = net.gru(net.gru(x, "gru_eighth_1", i), "gru_eighth_2", i)
    x = up(net.conv(x, "to_quarter"), 2) + net.conv(down(pixels - 0.5, 4), "from_reconstruction")
    return up(net.conv(net.block(net.block(leaky(x), "blocks.0"), "blocks.1"), f"to_pixels.{i}"), 4)


def fine_residual(net: Network, bits: NDArray[Any], pixels: NDArray[Any], j: int) -> NDArray[Any]:
    x = net.conv(up(bits, 2), f"from_bits.{j}") + net.conv(down(pixels - 0.5, 4), "from_reconstruction")
    x = net.gru(leaky(x), "gru", j)
    return up(net.conv(net.block(net.block(x, "blocks.0"), "blocks.1"), "to_pixels"), 4)


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
