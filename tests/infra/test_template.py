"""The Flex Template: its parameters, and the script that launches it."""

import json
import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from infra.launcher.main import main, parser
from model.weights.loading import read_config
from pipeline.runners.dataflow import GPU_MACHINE_TYPE, GPU_TYPE, GpuOptions
from tests.infra.job import FROM_LAUNCHER
from tests.storage import Storage

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "infra/launch.sh"
METADATA = json.loads((ROOT / "infra/template/metadata.json").read_text())
PARAMETERS: dict[str, dict[str, Any]] = {each["name"]: each for each in METADATA["parameters"]}

TERRAFORM = {
    "project": "my-project",
    "region": "europe-west4",
    "registry": "europe-west4-docker.pkg.dev/my-project/rgc",
    "temp_bucket": "my-project-rgc-temp",
    "output_bucket": "my-project-rgc",
    "worker": "rgc-worker@my-project.iam.gserviceaccount.com",
}


def flags(parser: ArgumentParser) -> dict[str, bool]:
    """Names without hyphens, and whether they are optional."""
    return {a.dest: not a.required for a in parser._actions if a.dest != "help"}


def test_metadata_is_what_dataflow_reads() -> None:
    """https://docs.cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates"""
    assert METADATA.keys() == {"name", "description", "parameters"}
    for parameter in METADATA["parameters"]:
        assert parameter.keys() - {"isOptional"} == {"name", "label", "helpText", "regexes"}
        assert parameter["label"] and parameter["helpText"]


def test_parameters_are_the_flags_that_are_parsed() -> None:
    gpu = ArgumentParser(add_help=False)
    GpuOptions._add_argparse_args(gpu)
    parameters = {name: parameter.get("isOptional", False) for name, parameter in PARAMETERS.items()}
    assert parameters == flags(parser()) | flags(gpu)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("input", ["gs://photos", "gs://my-photos/2019/a b,c.jpg", "gs://photos/**.jpg"]),
        ("output", ["gs://my-project-rgc/2019"]),
        ("inventory", ["gs://reports/2026-11-28/", "gs://my-photos/a b.csv"]),
        ("target_ms_ssim", ["0.95", ".9", "0.999"]),
        ("max_bpp", ["0.5", ".25", "2", "12.75"]),
        ("iterations", list(map(str, range(1, read_config().iterations + 1)))),
        ("gpu_type", [GPU_TYPE, "nvidia-tesla-a100"]),
        ("gpu_machine_type", [GPU_MACHINE_TYPE, "g2-standard-12", "n1-standard-8", "a2-highgpu-1g"]),
    ],
)
def test_regexes_accept(name: str, values: list[str]) -> None:
    for regex in PARAMETERS[name]["regexes"]:
        assert [value for value in values if not re.search(regex, value)] == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("input", ["", "photos", "/home/me/photos", "s3://photos", "gs://", "gs://Photos", " gs://photos"]),
        ("output", ["", "out", "gs://out/*", "gs://out/a?", "gs://out/[a]"]),
        ("inventory", ["", "gs://reports", "gs://reports/", "/home/me/inventory.csv"]),
        ("target_ms_ssim", ["", "0", "1", "1.0", "0.0", "95", "-0.5", "0.9x", "0,95"]),
        ("max_bpp", ["", "0", "0.0", "-1", "1.", "half", "1e3"]),
        ("iterations", ["", "0", "-1", "1.5", str(read_config().iterations + 1), "99", "all"]),
        ("gpu_type", ["", "l4", "nvidia-l4;count:8"]),
        ("gpu_machine_type", ["", "g2", "g2-standard", "g2-standard-8;count:8"]),
    ],
)
def test_regexes_deny(name: str, values: list[str]) -> None:
    (regex,) = PARAMETERS[name]["regexes"]
    assert [value for value in values if re.search(regex, value)] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target_ms_ssim=0.9", "--iterations=3"], "set one of"),  # which metadata cannot say
        (["--iterations=9"], "the model has 3"),
    ],
)
def test_settings_are_checked_before_a_job_is_submitted(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(["--input=gs://a", "--output=gs://b", *flags])


def test_places_are_checked_before_a_job_is_submitted(storage: Storage) -> None:
    """Else workers with GPUs would start, to find out that they have nothing to read or nowhere to write."""
    flags = [flag for flag in FROM_LAUNCHER if not flag.startswith("--template_location")]
    with pytest.raises(OSError, match="gs://no-such-bucket"):
        main([*flags, "--input=gs://archive", "--output=gs://no-such-bucket/out"])
    with pytest.raises(FileNotFoundError, match="gs://archive/photos: no such object"):
        main([*flags, "--input=gs://archive/photos", "--output=gs://archive/out"])


def test_shellcheck() -> None:
    subprocess.run([Path(sys.executable).with_name("shellcheck"), LAUNCH], check=True)


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of what is called in place of the real docker, gcloud, git and terraform."""
    log = tmp_path / "calls"
    outputs = "\n".join(f"    *' {name} ') printf %s '{value}' ;;" for name, value in TERRAFORM.items())
    answers = {
        "docker": "",
        "gcloud": '[[ "$*" != *describe* ]]',  # no image is there yet
        "git": 'case $1 in rev-parse) echo 0123456789ab ;; status) printf %s "${DIRTY:-}" ;; esac',
        "terraform": f'case " $* " in\n{outputs}\n    *) exit 1 ;;\n  esac',
    }
    for name, answer in answers.items():
        script = tmp_path / name
        script.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {log}\n{answer}\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAUNCH, *arguments], capture_output=True, text=True, check=False)


def test_launch_builds_pushes_and_runs(called: Path) -> None:
    result = launch(
        "gs://photos/a,b", "gs://my-project-rgc/x", "target_ms_ssim=0.97", "--", "--max-workers", "32"
    )
    assert result.returncode == 0, result.stderr
    calls = called.read_text().splitlines()
    done = [call for call in calls if not call.startswith(("terraform", "git", "gcloud a"))]
    for image in ("worker", "launcher"):
        name = f"{TERRAFORM['registry']}/{image}:0123456789ab"
        build = f"docker build --platform linux/amd64 --file infra/{image}/Dockerfile --tag {name} ."
        assert done[:2] == [build, f"docker push {name}"]
        del done[:2]
    template = "gs://my-project-rgc-temp/templates/rgc-0123456789ab.json"
    build, run = done
    assert build.startswith(f"gcloud dataflow flex-template build {template} --project my-project ")
    assert f"--image {TERRAFORM['registry']}/launcher:0123456789ab " in build
    assert re.match(r"gcloud dataflow flex-template run rgc-\d{8}-\d{6} --project my-project ", run)
    assert f"--template-file-gcs-location {template} " in run
    assert f"--service-account-email {TERRAFORM['worker']} " in run
    assert f"sdk_container_image={TERRAFORM['registry']}/worker:0123456789ab " in run
    parameters = "^|^input=gs://photos/a,b|output=gs://my-project-rgc/x|target_ms_ssim=0.97"
    assert run.endswith(f"--parameters {parameters} --max-workers 32")


def test_launch_refuses_what_is_not_committed(called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRTY", " M model/codec.py")
    result = launch("gs://photos", "gs://my-project-rgc/x")
    assert result.returncode == 1 and "not committed" in result.stderr
    assert "docker" not in called.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage:"),
        (["gs://photos"], "usage:"),
        (["/home/me/photos", "gs://my-project-rgc/x"], "INPUT is /home/me/photos"),
        (["gs://photos", "gs://elsewhere/x"], "can only write to gs://my-project-rgc"),
        (["gs://photos", "gs://my-project-rgc-2/x"], "can only write to gs://my-project-rgc"),
        (["gs://photos", "gs://my-project-rgc/x", "--iterations", "3"], "PARAMETER=VALUE is needed"),
        (["gs://photos|iterations=3", "gs://my-project-rgc/x"], "a |"),
    ],
)
def test_launch_refuses_a_wrong_call(called: Path, arguments: list[str], message: str) -> None:
    result = launch(*arguments)
    assert result.returncode == 2 and message in result.stderr
    assert not called.exists() or "docker" not in called.read_text()
