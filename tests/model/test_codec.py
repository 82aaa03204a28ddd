import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model import ms_ssim as ms_ssim_module
from model.batches.batch import Goal
from model.batches.search import TOP
from model.codec import Codec
from model.files import TargetOutOfReachError, encode_photo, encode_photos, to_image
from model.format import limits
from model.format.container import ITERATION_OVERHEAD, RgcError, read_rgc
from model.ms_ssim import ms_ssim_of_pixels
from model.photos.reading import decode_image
from model.settings import Settings

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # of other processes


def quality(first: Image.Image, second: Image.Image) -> float:
    return ms_ssim_of_pixels(np.array(first.convert("RGB")), np.array(second.convert("RGB")))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (17, 3), (64, 64), (97, 129)])
def test_any_size_decodes_to_the_quality_that_the_file_claims(
    tiny_codec: Codec, astronaut: Image.Image, size: tuple[int, int]
) -> None:
    photo = astronaut.resize(size)
    file = read_rgc(encode_photo(tiny_codec, decode_image(photo), Settings(iterations=3)).to_bytes())
    decoded = to_image(tiny_codec, file)
    assert decoded.size == size and decoded.mode == "RGB"
    assert quality(decoded, photo) == pytest.approx(file.ms_ssim[-1], abs=2e-5)


def test_grey_decodes_to_one_channel(tiny_codec: Codec, astronaut: Image.Image) -> None:
    photo = astronaut.convert("L").resize((64, 48))
    file = encode_photo(tiny_codec, decode_image(photo), Settings(iterations=2))
    decoded = to_image(tiny_codec, file)
    assert decoded.mode == "L"
    assert quality(decoded, photo) == pytest.approx(file.ms_ssim[-1], abs=2e-5)


def test_alpha_survives(tiny_codec: Codec, astronaut: Image.Image) -> None:
    photo = astronaut.resize((64, 48)).convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").resize((64, 48)))
    decoded = to_image(tiny_codec, encode_photo(tiny_codec, decode_image(photo), Settings(iterations=1)))
    assert decoded.mode == "RGBA"
    assert np.array_equal(np.array(decoded.getchannel("A")), np.array(photo.getchannel("A")))


def test_cut_off_files_decode_to_what_fewer_iterations_give(
    shipped_codec: Codec, astronaut: Image.Image, tmp_path: Path
) -> None:
    """In one process, and with `rgc decode --iterations` in another."""
    photo = decode_image(astronaut.resize((80, 64)))
    file = encode_photo(shipped_codec, photo, Settings(iterations=shipped_codec.iterations))
    data = file.to_bytes()
    counts = range(1, shipped_codec.iterations + 1)
    each = [shipped_codec.decode(file.first_iterations(n)) for n in counts]
    for iterations, length in enumerate(file.prefix_bytes(), start=1):
        cut = shipped_codec.decode(read_rgc(data[:length]))
        assert np.array_equal(cut, each[iterations - 1])
    (tmp_path / "a.rgc").write_bytes(data)
    decode = [sys.executable, "-m", "pipeline.cli.main", "decode", "a.rgc", "a.png", "--iterations", "2"]
    subprocess.run(decode, check=True, cwd=tmp_path, env=ENVIRONMENT)
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), each[1])


def test_photos_of_a_batch_meet_their_own_goals(tiny_codec: Codec, astronaut_pixels: NDArray) -> None:
    photos = [astronaut_pixels[:64, :80], astronaut_pixels[100:161, 100:179], astronaut_pixels[200:264, :80]]
    everything = tiny_codec.encode(photos, [Goal()] * 3, [False] * 3)
    assert [encoding.levels for encoding in everything] == [(TOP,) * 3] * 3
    below = everything[1].ms_ssim[0] * 0.99
    goals = [Goal(iterations=2), Goal(ms_ssim=below), Goal(ms_ssim=0.99999)]
    mixed = tiny_codec.encode(photos, goals, [False] * 3)
    assert [len(encoding.codes) for encoding in mixed] == [2, 1, 3]
    assert [encoding.reached for encoding in mixed] == [True, True, False]
    assert mixed[0].codes == everything[0].codes[:2] and mixed[2].codes == everything[2].codes
    (alone,) = tiny_codec.encode(photos[1:2], goals[1:2], [False])
    assert (mixed[1].codes, mixed[1].levels) == (alone.codes, alone.levels)
    assert alone.ms_ssim[0] == pytest.approx(mixed[1].ms_ssim[0], abs=1e-6) and alone.ms_ssim[0] >= below


@pytest.mark.parametrize("target", [0.95, 0.97, 0.98, 0.99, 0.995])
def test_targets_are_met_and_hardly_exceeded(
    shipped_codec: Codec, astronaut: Image.Image, target: float
) -> None:
    photo = decode_image(astronaut.crop((100, 0, 356, 256)))
    file = encode_photo(shipped_codec, photo, Settings(target_ms_ssim=target))
    assert target <= file.ms_ssim[-1] <= target + 0.001
    assert set(file.levels[:-1]) <= {TOP}


@pytest.mark.parametrize(
    "colour", [(128, 128, 128), (255, 255, 255), (200, 30, 30), (0, 0, 255), (250, 240, 10)]
)
@pytest.mark.parametrize("target", [0.9, 0.985, 0.99])
def test_one_colour_costs_next_to_nothing(
    shipped_codec: Codec, colour: tuple[int, int, int], target: float
) -> None:
    pixels = np.broadcast_to(np.array(colour, np.uint8), (1024, 1024, 3)).copy()
    (encoding,) = shipped_codec.encode([pixels], [Goal(ms_ssim=target)], [False])
    assert encoding.reached and len(encoding.codes[0]) * 8 / 2**20 < 0.002


@pytest.mark.parametrize("limit", [2_000, 5_000, 12_000, 25_000])
def test_a_limit_on_bytes_is_kept_and_nearly_used(
    shipped_codec: Codec, astronaut_pixels: NDArray, limit: int
) -> None:
    photo = astronaut_pixels[:256, 100:356]
    (encoding,) = shipped_codec.encode([photo], [Goal(code_bytes=limit)], [False])
    size = sum(len(stream) + ITERATION_OVERHEAD for stream in encoding.codes)
    assert encoding.reached and 0.97 * limit <= size <= limit


def test_a_limit_below_the_smallest_file_is_out_of_reach(
    tiny_codec: Codec, astronaut_pixels: NDArray
) -> None:
    for limit in (-5, 10, 100):
        (encoding,) = tiny_codec.encode([astronaut_pixels[:64, :64]], [Goal(code_bytes=limit)], [False])
        assert not encoding.codes and not encoding.reached


def test_max_bits_per_pixel_counts_the_whole_file(shipped_codec: Codec, astronaut: Image.Image) -> None:
    photo = decode_image(astronaut.resize((192, 128)))
    photo = replace(photo, icc_profile=b"", xmp=b"x" * 500)
    file = encode_photo(shipped_codec, photo, Settings(max_bits_per_pixel=1.2))
    rates = [length * 8 / (192 * 128) for length in file.prefix_bytes()]
    assert rates[-1] <= 1.2
    with pytest.raises(TargetOutOfReachError, match=r"more than 0\.1 bits per pixel"):
        encode_photo(shipped_codec, photo, Settings(max_bits_per_pixel=0.1))


def test_a_target_out_of_reach_names_the_best(tiny_codec: Codec, astronaut: Image.Image) -> None:
    with pytest.raises(TargetOutOfReachError, match=r"MS-SSIM 0\.9999 is out of reach: 0\.\d+ after 3"):
        photo = decode_image(astronaut.resize((64, 64)))
        encode_photo(tiny_codec, photo, Settings(target_ms_ssim=0.9999))


def test_shipped_model_gets_better_with_each_iteration(shipped_codec: Codec, astronaut: Image.Image) -> None:
    photo = decode_image(astronaut.crop((100, 0, 356, 256)))
    file = encode_photo(shipped_codec, photo, Settings(iterations=shipped_codec.iterations))
    assert all(earlier < later for earlier, later in pairwise(file.ms_ssim))
    assert file.ms_ssim[-1] > 0.97


@pytest.mark.parametrize("grey_level", [0, 200, 255])
def test_flat_images_make_valid_files(shipped_codec: Codec, grey_level: int) -> None:
    """Rounding lifts their MS-SSIM above 1 at times, which no file can hold."""
    photo = decode_image(Image.new("RGB", (300, 200), (grey_level,) * 3))
    file = encode_photo(shipped_codec, photo, Settings(iterations=2))
    assert read_rgc(file.to_bytes()).ms_ssim == file.ms_ssim
    assert max(file.ms_ssim) <= 1


def test_more_iterations_than_the_model_has_are_refused(tiny_codec: Codec, astronaut: Image.Image) -> None:
    with pytest.raises(ValueError, match="iterations is 4; this model has 3"):
        encode_photo(tiny_codec, decode_image(astronaut), Settings(iterations=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bits_coded_on_one_device_decode_on_the_other(shipped_codec: Codec, astronaut: Image.Image) -> None:
    codecs = shipped_codec, Codec.load("cuda")
    for encoder in codecs:
        settings = Settings(iterations=encoder.iterations)
        file = encode_photo(encoder, decode_image(astronaut), settings)
        on_cpu, on_gpu = (list(codec.symbols(file)) for codec in codecs)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, on_gpu, strict=True))
        qualities = [
            quality(Image.fromarray(shipped_codec.decode(file.first_iterations(n + 1))), astronaut)
            for n in range(len(file.codes))
        ]  # a wrong bit would show: what follows it is noise
        assert qualities == pytest.approx(file.ms_ssim, abs=1e-3)


def test_refuses_files_it_cannot_decode(tiny_codec: Codec, astronaut: Image.Image) -> None:
    photo = decode_image(astronaut.resize((32, 32)))
    file = encode_photo(tiny_codec, photo, Settings(iterations=1))
    for broken, message in (
        (
            replace(file, model_id="rgc-ffffffffffff"),
            "rgc-ffffffffffff is none of those that this rgc has: rgc-",
        ),
        (replace(file, codes=()), "nothing to decode"),
        (replace(file, codes=file.codes * 4), "4 iterations; model rgc-0123456789ab has 3"),
        (replace(file, codes=(b"xyz",)), "iteration 1: a stream of 3 bytes"),
    ):
        with pytest.raises(RgcError, match=message):
            tiny_codec.decode(broken)


def test_limits_count_what_the_networks_work_on() -> None:
    assert limits.padded_size(48, 49) == (64, 80) and limits.padded_pixels(49, 48) == 64 * 80


def test_tiles_do_not_show(shipped_codec: Codec, astronaut: Image.Image) -> None:
    """Neither in the streams nor in the errors of the decoded pixels beside the tiles' borders."""
    photo = decode_image(astronaut)
    settings = [Settings(iterations=2)]
    (whole,) = encode_photos(shipped_codec, [photo], settings)
    (tiled,) = encode_photos(shipped_codec, [photo], settings, tile=128)
    sizes = [sum(map(len, encoded.file.codes)) for encoded in (whole, tiled)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.002)
    decoded = shipped_codec.decode(tiled.file, tile=128).astype(int)
    error = np.abs(decoded - photo.pixels).mean(axis=2)
    seamless = np.abs(shipped_codec.decode(whole.file).astype(int) - photo.pixels).mean(axis=2)
    distance = np.minimum(np.arange(512) % 128, 127 - np.arange(512) % 128)
    near = (distance[:, None] < 8) | (distance[None, :] < 8)
    assert error[near].mean() / seamless[near].mean() == pytest.approx(1, abs=0.02)
    assert error[~near].mean() / seamless[~near].mean() == pytest.approx(1, abs=0.02)


def test_no_photos_are_a_batch_too(tiny_codec: Codec) -> None:
    assert tiny_codec.encode([], [], []) == []


def test_threads_do_not_show_in_thumbnails(shipped_codec: Codec, astronaut: Image.Image) -> None:
    photo, threads, encoded = decode_image(astronaut.resize((100, 75))), torch.get_num_threads(), []
    for number in (1, 2, 4):
        torch.set_num_threads(number)
        encoded.append(encode_photo(shipped_codec, photo, Settings(iterations=3)))
    torch.set_num_threads(threads)
    assert encoded[0] == encoded[1] == encoded[2]


_DECODE = """
import sys, torch
from model.codec import Codec
from model.format.container import read_rgc
torch.set_num_threads(int(sys.argv[2]))
file = read_rgc(open(sys.argv[1], "rb").read())
for symbols in Codec.load(dtype=getattr(torch, sys.argv[3])).symbols(file):
    sys.stdout.buffer.write(symbols.to(torch.int16).numpy().tobytes())
"""


def test_symbols_decode_alike_with_other_threads_precisions_and_processes(
    shipped_codec: Codec, astronaut: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "a.rgc"
    photo = decode_image(astronaut.resize((250, 200)))
    path.write_bytes(encode_photo(shipped_codec, photo, Settings(iterations=2)).to_bytes())
    decoded = {
        subprocess.run(
            [sys.executable, "-c", _DECODE, str(path), *way],
            capture_output=True,
            check=True,
            env=ENVIRONMENT,
        ).stdout
        for way in [("1", "float32"), ("2", "float32"), ("2", "bfloat16")]
    }
    symbols = shipped_codec.model.config.symbols
    assert len(decoded) == 1 and len(decoded.pop()) == sum(symbols[:2]) * 28 * 34 * 2


def test_the_caller_s_settings_change_nothing(
    shipped_codec: Codec, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autocast, a default dtype or device, deterministic modes: neither symbols nor MS-SSIM follow them."""
    photo, settings = decode_image(astronaut.crop((0, 0, 90, 70))), Settings(target_ms_ssim=0.8)
    expected = encode_photo(shipped_codec, photo, settings)
    ms_ssim_module._band.cache_clear()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            encoded = encode_photo(Codec.load(), photo, settings)
            decoded = shipped_codec.decode(expected)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        ms_ssim_module._band.cache_clear()
    assert encoded == expected
    assert np.array_equal(decoded, shipped_codec.decode(expected))
