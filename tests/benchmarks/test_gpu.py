"""The GPU's benchmark, on the CPU at a tiny size."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.batches.batch import Goal
from model.codec import Codec
from model.weights.loading import save_weights
from tests.benchmarks import gpu
from tests.conftest import tiny_model


def test_it_measures_everything_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(gpu, "PROCESSES", (2,))
    monkeypatch.setattr(gpu, "_THUMBNAILS", 3)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    sizes = ["--megapixels", "0.003", "0.006", "0.012"]
    arguments = ["gpu", *sizes, "--device", "cpu", "--weights", str(tmp_path / "tiny.safetensors")]
    monkeypatch.setattr(sys, "argv", arguments)
    gpu.main()
    printed = capsys.readouterr().out
    assert "3 iterations, symbols and streams as on the CPU; pixels differ by 0 at most" in printed
    for name in ("0.003 megapixels", "0.012 megapixels", "mixed, 10 photos", "2 processes, 0.006 megapixels"):
        assert f"{name}: encode " in printed
    encoding, decoding = printed.split("encode 0.006 megapixels")[1].split("decode 0.006 megapixels")
    assert "kernels on a GPU" in encoding and "MS-SSIM: host" in encoding and "networks: host" in encoding
    assert "context model alone: host" in decoding and "MS-SSIM" not in decoding


def test_other_symbols_than_the_cpu_s_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    codec = Codec.load("cpu", weights=tmp_path / "tiny.safetensors")
    symbols = codec.symbols(*gpu.encode(codec, [gpu.picture(40, 30)], Goal(iterations=1)))
    monkeypatch.setattr(codec, "symbols", lambda file: [symbols[0] + 1, *symbols[1:]])
    with pytest.raises(AssertionError, match="symbols of iteration 1 differ"):
        gpu.check_exact(codec, tmp_path / "tiny.safetensors", gpu.picture(40, 30))


def test_pictures_are_like_photos_and_each_is_another() -> None:
    first, second = gpu.picture(64, 48), gpu.picture(64, 48, seed=1)
    assert first.shape == (48, 64, 3) and (first != second).mean() > 0.9
    assert 10 < first.std() < 100
    assert gpu.sides(12) == (4000, 3000)


def test_it_needs_no_more_than_torch_numpy_constriction_and_safetensors() -> None:
    code = "import tests.benchmarks.gpu, sys; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert not loaded & {"apache_beam", "PIL", "pillow_heif", "scipy", "typer", "rich", "pyarrow"}
