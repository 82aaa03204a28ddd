"""The images, as far as that goes without Docker."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
IMAGES = ["worker", "launcher"]


def dockerfile(image: str) -> str:
    return (ROOT / f"infra/{image}/Dockerfile").read_text()


def pinned(image: str, pattern: str) -> list[str]:
    found = re.findall(pattern, dockerfile(image))
    assert found, f"{image}: no {pattern}"
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint(image: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, ROOT / f"infra/{image}/Dockerfile"], check=True)


def test_beam_is_the_one_that_jobs_are_submitted_with() -> None:
    (version,) = pinned("worker", r"apache/beam_python3\.11_sdk:(\S+)")
    assert version == CONSTRAINTS["apache-beam"]


@pytest.mark.parametrize("image", IMAGES)
def test_torch_is_the_one_that_is_tested(image: str) -> None:
    assert pinned(image, r"torch==(\S+)") == [CONSTRAINTS["torch"]]


def test_torch_is_bounded_by_what_was_tried() -> None:
    (bound,) = re.findall(r'"torch>=[\d.]+,<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    major, minor, _ = CONSTRAINTS["torch"].split(".")
    assert bound == f"{major}.{int(minor) + 1}"


def test_both_images_have_the_same_python() -> None:
    """Else what one pickles the other cannot read."""
    (worker,), (launcher,) = (
        pinned("worker", r"--python (\d+\.\d+)\."),
        pinned("launcher", r"python:(\d+\.\d+)-"),
    )
    (template_launcher,) = pinned("launcher", r"/python(\d+)-template-launcher-base:")
    assert worker == launcher == "3.11" and template_launcher == "311"
    assert pinned("worker", "astral-sh/uv:(.*?) ") == pinned("launcher", "astral-sh/uv:(.*?) ")


def test_torch_is_built_for_the_cuda_of_the_image() -> None:
    (cuda,), (backend,) = (
        pinned("worker", r"nvidia/cuda:(\d+\.\d+)"),
        pinned("worker", r"TORCH_BACKEND=cu(\d+)"),
    )
    assert cuda.replace(".", "") == backend
    # A driver of Dataflow's runs CUDA 12, but not for certain 13: see pipeline/runners/dataflow.py.
    assert cuda.startswith("12.")


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_not_ignored(image: str) -> None:
    ignored = (ROOT / f"infra/{image}/Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(image), re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert {"model", "transforms", "pipeline"} <= sources
    assert not fnmatch.filter(ignored, "*weights*")
