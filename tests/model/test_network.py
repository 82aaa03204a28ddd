import pytest
import torch
from torch.nn import functional as F

from model.batches.batch import State
from model.batches.search import position
from model.batches.stages import Stages
from model.batches.tiling import run_tiled
from model.coding.limits import LARGEST_SYMBOL
from model.network import PatchConv, ResidualGRUCodec, interpolate, quantize
from tests.conftest import TINY, tiny_model

LEVEL = torch.tensor([0.4, 0.9])


def test_quantize_rounds_and_passes_gradients() -> None:
    values = torch.tensor([-2.6, -0.4, 0.0, 0.6, 900.0], requires_grad=True)
    symbols = quantize(values)
    assert symbols.tolist() == [-3, 0, 0, 1, LARGEST_SYMBOL]
    symbols.sum().backward()
    assert values.grad.tolist() == [1, 1, 1, 1, 1]


def test_levels_lie_between_anchors() -> None:
    anchors = torch.tensor([[0.0, 10.0], [1.0, 20.0], [2.0, 40.0]])
    between = interpolate(anchors, torch.tensor([0.0, 0.25, 0.75, 1.0]))[:, :, 0, 0]
    assert between.tolist() == [[0, 10], [0.5, 15], [1.5, 30], [2, 40]]
    assert interpolate(anchors, torch.tensor([-0.5]))[:, :, 0, 0].tolist() == [[-1, 0]]


def test_patches_are_summed_in_one_order_whatever_the_threads() -> None:
    torch.manual_seed(0)
    layer, threads = PatchConv(160, 224).requires_grad_(False), torch.get_num_threads()
    x = torch.randn(1, 160, 60, 80).contiguous(memory_format=torch.channels_last)
    outputs = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        outputs.append(layer(x))
    torch.set_num_threads(threads)
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    as_1x1 = F.conv2d(F.pixel_unshuffle(x, 2), layer.weight, layer.bias)
    assert torch.allclose(outputs[0], as_1x1, atol=1e-5)


def an_iteration(i: int, height: int, width: int, tile: int) -> list[torch.Tensor]:
    """What an iteration makes of random images, states and symbols, in tiles as the codec takes them."""
    stages = Stages(tiny_model(), torch.device("cpu"))
    torch.manual_seed(0)
    images = torch.rand(2, 3, height, width)
    symbols = torch.randint(-3, 4, (2, TINY.symbols[i], height // 8, width // 8)).float()
    state = State()
    if i:
        hidden = torch.randn(2, 2, TINY.quarter_channels, height // 4, width // 4)
        state = State(torch.rand(2, 3, height, width), *hidden)
    return [*stages.analyse(images, state, i, tile), *stages.synthesize(symbols, LEVEL, state, i, tile)]


@pytest.mark.parametrize("iteration", range(TINY.iterations))
def test_shapes(iteration: int) -> None:
    latents, encoder, reconstruction, decoder = an_iteration(iteration, 32, 48, tile=4096)
    assert latents.shape == (2, 2 * TINY.symbols[iteration], 4, 6)
    assert encoder.shape == decoder.shape == (2, TINY.quarter_channels, 8, 12)
    assert reconstruction.shape == (2, 3, 32, 48)


def test_iterations_depend_on_those_before() -> None:
    model = tiny_model()
    symbols, image = torch.ones(1, TINY.symbols[1], 4, 4), torch.rand(1, 3, 32, 32)
    _, state = model.decode(torch.ones(1, TINY.symbols[0], 4, 4), LEVEL[:1], None, None, 0)
    after, _ = model.decode(symbols, LEVEL[:1], image, state, 1)
    other, _ = model.decode(symbols, LEVEL[:1], image, torch.zeros_like(state), 1)
    assert not torch.allclose(after, other)


def test_a_higher_level_has_finer_steps() -> None:
    model = tiny_model()
    low, high = model.gain(0, torch.tensor([0.0, 1.0]))
    assert (high > 3 * low).all()


@pytest.mark.parametrize("iteration", range(TINY.iterations))
@pytest.mark.parametrize("size", [(432, 304), (304, 480)])
def test_tiles_leave_no_seam(iteration: int, size: tuple[int, int]) -> None:
    """Tiled and whole agree to the last bits of float32."""
    tiled, whole = an_iteration(iteration, *size, tile=64), an_iteration(iteration, *size, tile=4096)
    for one, other in zip(tiled, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_small_images_are_not_tiled() -> None:
    calls = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(x.shape)
        return [x]

    run_tiled(network, [torch.zeros(1, 3, 64 + 2 * 80, 64)], 64, 80)
    assert len(calls) == 1
    run_tiled(network, [torch.zeros(1, 3, (64 + 2 * 80) // 8, 8)], 64, 80, first_stride=8)
    assert len(calls) == 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_no_colour_is_too_large_for_a_symbol(level: int) -> None:
    model, at = ResidualGRUCodec(TINY).eval(), torch.from_numpy(position([level] * 8))
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    latents = model.transform(0)(corners[:, :, None, None].expand(-1, -1, 8, 8))
    symbols = quantize(latents * model.gain(0, at))
    assert ((symbols - latents * model.gain(0, at)).abs() <= 0.501).all()
