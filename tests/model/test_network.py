import torch

from model.network import DECODER_REACH, ENCODER_REACH, ResidualGRUCodec, State, binarize
from model.tiling import run_tiled
from tests.conftest import TINY, tiny_model


def test_binarize_signs_and_passes_gradients_of_tanh() -> None:
    logits = torch.tensor([-2.0, -0.1, 0.0, 3.0], requires_grad=True)
    bits = binarize(logits)
    assert bits.tolist() == [-1, -1, 1, 1]
    bits.sum().backward()
    assert torch.allclose(logits.grad, 1 - logits.detach().tanh() ** 2)


def test_training_and_coding_take_the_same_steps() -> None:
    model = tiny_model()
    images = torch.rand(2, 3, 32, 48)
    codes, reconstructions = model(images, TINY.iterations)
    reconstruction, states = (
        model.first_reconstruction(images),
        (model.encoder_state(), model.decoder_state()),
    )
    for i in range(TINY.iterations):
        logits, encoder_state = model.encode_iteration(images, reconstruction, states[0], i)
        reconstruction, decoder_state = model.decode_iteration(binarize(logits), reconstruction, states[1], i)
        states = (encoder_state, decoder_state)
        assert torch.equal(codes[i], binarize(logits))
        assert torch.equal(reconstructions[i], reconstruction)


def test_iterations_depend_on_those_before() -> None:
    model = tiny_model()
    codes, reconstructions = model(torch.rand(1, 3, 32, 32), 2)
    again, _ = model.decode_iteration(codes[1], reconstructions[0], model.decoder_state(), 1)
    assert not torch.allclose(again, reconstructions[1])


def test_tiles_leave_no_seam() -> None:
    """Tiled and whole agree to the last few bits of float32, states and all, over two iterations."""
    torch.manual_seed(0)
    model = ResidualGRUCodec(TINY).double().eval().requires_grad_(False)
    images = torch.rand(1, 3, 432, 304, dtype=torch.float64)

    def encode_and_decode(tile: int) -> list[torch.Tensor]:
        reconstruction = model.first_reconstruction(images)
        encoder_state, decoder_state = model.encoder_state(), model.decoder_state()
        seen = []
        for i in range(2):

            def encoder(
                images: torch.Tensor, before: torch.Tensor, *hidden: torch.Tensor, i: int = i
            ) -> list[torch.Tensor]:
                logits, state = model.encode_iteration(images, before, State(hidden), i)
                return [logits, *state.hidden]

            def decoder(
                before: torch.Tensor, bits: torch.Tensor, *hidden: torch.Tensor, i: int = i
            ) -> list[torch.Tensor]:
                after, state = model.decode_iteration(bits, before, State(hidden), i)
                return [after, *state.hidden]

            logits, *hidden = run_tiled(
                encoder, [images, reconstruction, *encoder_state.hidden], tile, ENCODER_REACH
            )
            encoder_state = State(tuple(hidden))
            bits = torch.where(logits >= 0, 1.0, -1.0).double()
            reconstruction, *hidden = run_tiled(
                decoder, [reconstruction, bits, *decoder_state.hidden], tile, DECODER_REACH
            )
            decoder_state = State(tuple(hidden))
            seen += [logits, reconstruction]
        return seen

    for tiled, whole in zip(encode_and_decode(64), encode_and_decode(4096), strict=True):
        assert torch.allclose(tiled, whole, atol=1e-12)


def test_small_images_are_not_tiled() -> None:
    calls = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(x.shape)
        return [x]

    run_tiled(network, [torch.zeros(1, 3, 64 + 2 * 80, 64)], 64, 80)
    assert len(calls) == 1
