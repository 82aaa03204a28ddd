import torch
from torch.nn import functional as F

from model.network import PatchConv, ResidualGRUCodec, Stage, State, binarize
from model.tiling import run_tiled
from tests.conftest import TINY, tiny_model


def test_binarize_signs_and_passes_gradients_of_tanh() -> None:
    logits = torch.tensor([-2.0, -0.1, 0.0, 3.0], requires_grad=True)
    bits = binarize(logits)
    assert bits.tolist() == [-1, -1, 1, 1]
    bits.sum().backward()
    assert torch.allclose(logits.grad, 1 - logits.detach().tanh() ** 2)


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


def in_steps(model: ResidualGRUCodec, images: torch.Tensor, tile: int = 4096) -> list[torch.Tensor]:
    """B[i] and P[i] of all iterations, as the codec takes them: one iteration at a time, in tiles."""
    seen, reconstruction = [], model.first_reconstruction(images)
    for i in range(TINY.iterations):
        stage = model.stage(i)
        if i == stage.first:
            encoder_state, decoder_state = stage.encoder_state(), stage.decoder_state()

        def encoder(
            images: torch.Tensor,
            before: torch.Tensor,
            *hidden: torch.Tensor,
            i: int = i,
            stage: Stage = stage,
        ) -> list[torch.Tensor]:
            logits, state = stage.encode(images, before, State(hidden), i)
            return [binarize(logits), *state.hidden]

        def decoder(
            before: torch.Tensor, bits: torch.Tensor, *hidden: torch.Tensor, i: int = i, stage: Stage = stage
        ) -> list[torch.Tensor]:
            after, state = stage.decode(bits, before, State(hidden), i)
            return [after, *state.hidden]

        inputs = [images, reconstruction, *encoder_state.hidden]
        bits, *hidden = run_tiled(encoder, inputs, tile, stage.encoder.REACH)
        encoder_state = State(tuple(hidden))
        inputs = [reconstruction, bits, *decoder_state.hidden]
        reconstruction, *hidden = run_tiled(decoder, inputs, tile, stage.decoder.REACH)
        decoder_state = State(tuple(hidden))
        seen += [bits, reconstruction]
    return seen


def test_training_and_coding_take_the_same_steps() -> None:
    model = tiny_model()
    images = torch.rand(2, 3, 32, 48)
    codes, reconstructions = model(images, TINY.iterations)
    seen = in_steps(model, images)
    assert all(torch.equal(a, b) for a, b in zip(codes, seen[::2], strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(reconstructions, seen[1::2], strict=True))
    assert [bits.shape[1:] for bits in codes] == [(bits, 4, 6) for bits in TINY.bits]


def test_iterations_depend_on_those_before() -> None:
    model = tiny_model()
    codes, reconstructions = model(torch.rand(1, 3, 32, 32), 2)
    again, _ = model.coarse.decode(codes[1], reconstructions[0], model.coarse.decoder_state(), 1)
    assert not torch.allclose(again, reconstructions[1])


def test_frozen_iterations_have_no_gradient() -> None:
    model = tiny_model().requires_grad_(True)
    _, reconstructions = model(torch.rand(1, 3, 32, 32), TINY.iterations, frozen=TINY.coarse_iterations)
    reconstructions[-1].sum().backward()
    assert all(parameter.grad is None for parameter in model.coarse.parameters())
    assert model.fine.decoder.to_pixels.weight.grad is not None


def test_tiles_leave_no_seam() -> None:
    """Tiled and whole agree to the last few bits of float64, bits and pixels, in both stages."""
    torch.manual_seed(0)
    model = ResidualGRUCodec(TINY).double().eval().requires_grad_(False)
    images = torch.rand(1, 3, 432, 304, dtype=torch.float64)
    for tiled, whole in zip(in_steps(model, images, tile=64), in_steps(model, images), strict=True):
        assert torch.allclose(tiled, whole, atol=1e-12)


def test_small_images_are_not_tiled() -> None:
    calls = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(x.shape)
        return [x]

    run_tiled(network, [torch.zeros(1, 3, 64 + 2 * 80, 64)], 64, 80)
    assert len(calls) == 1
