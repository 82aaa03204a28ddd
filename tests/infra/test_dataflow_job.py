"""The job that is sent to Dataflow, as Beam writes it."""

import getpass
import os
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

from infra.launcher.main import main
from pipeline.decompress import DecompressJob, decompress
from pipeline.runners.dataflow import choose_dataflow_options, inference_hints
from pipeline.runners.run import choose_execution, run
from tests.infra.job import (
    FROM_LAUNCHER,
    IMAGE,
    INPUT,
    OUTPUT,
    PARAMETERS,
    Submitted,
    submit,
    submitting,
    what_was_submitted,
)
from tests.runs import rgc
from transforms.counters import read_counters
from transforms.find import find_source
from transforms.storage import gcs
from transforms.storage.files import write_bytes

ACCELERATOR = "beam:resources:accelerator:v1"
SECRET = "a-password-that-is-only-in-the-environment"


@pytest.fixture(scope="module")
def submitted() -> Submitted:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RGC_TEST_PASSWORD", SECRET)
        return submit()


def accelerators(submitted: Submitted) -> dict[str, str]:
    """Steps that ask for a GPU, by name, without what they are composed of."""
    components = submitted.pipeline.components
    return {
        step.unique_name: components.environments[step.environment_id].resource_hints[ACCELERATOR].decode()
        for step in components.transforms.values()
        if not step.subtransforms
        and ACCELERATOR in components.environments[step.environment_id].resource_hints
    }


def test_only_loading_encoding_and_writing_hold_a_gpu(submitted: Submitted) -> None:
    hints = accelerators(submitted)
    assert Counter(name.partition("/")[0] for name in hints) == {"Load": 1, "Encode": 2, "Write": 1}
    assert set(hints.values()) == {
        "type:nvidia-l4;count:1;machine_type:g2-standard-4;install-nvidia-driver:5xx"
    }


def test_no_job_falls_back_to_the_cpu(submitted: Submitted) -> None:
    """At a GPU's price: where the GPU does not work, the job fails. However it is submitted."""
    with submitting():
        rgc("compress", INPUT, OUTPUT, *FROM_LAUNCHER)
        by_hand = what_was_submitted()
    for job in (submitted, by_hand):
        (handler,) = {
            pickle for pickle in job.pickles() if b"EncodeHandler" in pickle and b"_settings" in pickle
        }
        assert b"cuda" in handler and b"auto" not in handler


def test_workers_leave_word_of_what_they_encode(submitted: Submitted) -> None:
    """In the run's folder: a photo that ends its process is known in the next one."""
    (handler,) = {pickle for pickle in submitted.pickles() if b"Attempts" in pickle}
    assert f"{OUTPUT}/manifest/run=".encode() in handler


def test_a_shuffle_lies_between_listing_and_the_gpu(submitted: Submitted) -> None:
    """Else Dataflow would fuse them, and list on a GPU worker."""
    steps = [s for s in submitted.pipeline.components.transforms.values() if not s.subtransforms]
    maker = {output: step for step in steps for output in step.outputs.values()}
    (step,) = (step for step in steps if step.unique_name == "Load/ParDo(ThreadedMap)")
    while step.spec.urn != "beam:transform:group_by_key:v1":
        (source,) = step.inputs.values()
        step = maker[source]
        assert step.unique_name.startswith("Balance/")


def test_workers(submitted: Submitted) -> None:
    (pool,) = submitted.environment["workerPools"]
    assert pool["machineType"] == "e2-standard-2"  # of those without a GPU
    assert pool["autoscalingSettings"] == {"algorithm": "AUTOSCALING_ALGORITHM_BASIC", "maxNumWorkers": 8}
    assert pool["diskSizeGb"] == 50 and pool["diskType"].endswith("/pd-ssd")
    assert pool["numThreadsPerWorker"] == 2
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    experiments = submitted.environment["experiments"]
    assert {"use_runner_v2", "no_use_multiple_sdk_containers"} <= set(experiments)
    assert "use_multiple_sdk_containers" not in experiments
    assert "flexResourceSchedulingGoal" not in submitted.environment


def test_a_stuck_element_ends_its_process_before_the_job(submitted: Submitted) -> None:
    """After longer than one request to storage is tried."""
    options = submitted.environment["sdkPipelineOptions"]["options"]
    assert options["element_processing_timeout_minutes"] * 60 > 1.5 * gcs._SECONDS_OF_RETRYING
    none = submit("--element_processing_timeout_minutes=0").environment["sdkPipelineOptions"]["options"]
    assert none["element_processing_timeout_minutes"] == 0


@pytest.mark.parametrize(
    ("gpu_machine", "disk", "other_machine"),
    [
        ("g2-standard-8", "pd-ssd", "e2-standard-2"),
        ("a2-highgpu-1g", "pd-ssd", "e2-standard-2"),
        ("a3-highgpu-1g", "pd-ssd", "e2-standard-2"),
        ("a3-ultragpu-8g", "hyperdisk-balanced", "n4-standard-2"),
        ("a4-highgpu-8g", "hyperdisk-balanced", "n4-standard-2"),
        ("g4-standard-48", "hyperdisk-balanced", "n4-standard-2"),
    ],
)
def test_both_pools_take_the_disk_that_the_gpus_machine_takes(
    gpu_machine: str, disk: str, other_machine: str
) -> None:
    options = PipelineOptions([*FROM_LAUNCHER, f"--gpu_machine_type={gpu_machine}"])
    choose_dataflow_options(options)
    worker = options.view_as(WorkerOptions)
    assert worker.disk_type.endswith(f"/diskTypes/{disk}") and worker.machine_type == other_machine


def test_an_inventory_takes_the_place_of_listing() -> None:
    with submitting():
        inventory = f"{INPUT}/inventory.csv"
        write_bytes(inventory, b"bucket,name,size,generation,crc32c\nphotos,2019/a.jpg,1,1,AAAAAA==\n")
        main([*PARAMETERS, *FROM_LAUNCHER, f"--inventory={inventory}"])
        pickles = list(what_was_submitted().pickles())
    assert any(inventory.encode() in pickle for pickle in pickles)


def test_nothing_but_the_pipeline_is_staged(submitted: Submitted) -> None:
    """The image has the code and the weights in it."""
    assert submitted.files.keys() == {"pipeline.pb"}
    assert "packages" not in submitted.environment["workerPools"][0]


def test_job_tells_nothing_of_who_submitted_it(submitted: Submitted) -> None:
    pickles = list(submitted.pickles())
    assert sum(OUTPUT.encode() in pickle for pickle in pickles) >= 5  # they are read right
    folders = [Path(__file__).parents[2], sys.prefix, sys.base_prefix, Path.home(), tempfile.gettempdir()]
    needles = [*(f"{folder}/" for folder in folders), f"-{getpass.getuser()}-", SECRET]
    for document in (str(submitted.job).encode(), submitted.files["pipeline.pb"], *pickles):
        assert [needle for needle in needles if os.fsencode(needle) in document] == []


def test_options_that_are_given_take_precedence() -> None:
    submitted = submit(
        "--gpu_machine_type=g2-standard-8",
        "--machine_type=n2-standard-2",
        "--max_num_workers=32",
        "--number_of_worker_harness_threads=1",
        "--job_name=one-run",
    )
    (hint,) = set(accelerators(submitted).values())
    assert "machine_type:g2-standard-8;" in hint
    (pool,) = submitted.environment["workerPools"]
    assert pool["machineType"] == "n2-standard-2"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 32
    assert pool["numThreadsPerWorker"] == 1
    assert submitted.job["name"] == "one-run"


@pytest.mark.parametrize("missing", ["--project", "--region", "--temp_location", "--sdk_container_image"])
def test_a_missing_option_is_named(missing: str) -> None:
    options = PipelineOptions([flag for flag in FROM_LAUNCHER if not flag.startswith(missing)])
    with pytest.raises(ValueError, match=f"needs {missing}, too"):
        choose_dataflow_options(options)


@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflowrunner", "Dataflow", "dataflow"])
def test_the_runner_is_known_however_it_is_spelled(runner: str) -> None:
    """As Beam knows it; else the job would get no GPUs, and nobody would say so."""
    flags = [f"--runner={runner}", *(flag for flag in FROM_LAUNCHER if not flag.startswith("--runner"))]
    options = PipelineOptions(flags)
    choose_dataflow_options(options)
    assert inference_hints(options)["accelerator"].startswith("type:nvidia-l4;")
    assert options.view_as(WorkerOptions).machine_type == "e2-standard-2"


def test_decompress_asks_for_gpus_too() -> None:
    with submitting():
        write_bytes(f"{OUTPUT}/codes/a.jpg.rgc", b"x")
        options = PipelineOptions(FROM_LAUNCHER)
        choose_dataflow_options(options)
        job = DecompressJob(find_source(f"{OUTPUT}/codes"), OUTPUT, "png", None)
        with pytest.raises(ValueError, match="Job id is unknown"):  # only a job that runs has metrics
            read_counters(run(partial(decompress, job), choose_execution(options, "auto"), options))
        job = what_was_submitted()
    assert {name.partition("/")[0] for name in accelerators(job)} == {"Load", "Decode", "Write"}


def test_other_runners_are_left_alone() -> None:
    options = PipelineOptions(["--runner=DirectRunner"])
    before = options.get_all_options()
    choose_dataflow_options(options)
    assert options.get_all_options() == before
    assert inference_hints(options) == {}
