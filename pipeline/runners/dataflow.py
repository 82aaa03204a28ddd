"""The choices for a job on Dataflow, and why. Beam's own options take precedence.

Photos are loaded, encoded and written on workers with a GPU, everything else is done on workers without one:
by the resource hints of `inference_hints`, Dataflow keeps two pools ("right fitting").
"""

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

from apache_beam.internal import cloudpickle_pickler
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline.runners.names import is_dataflow

# The cheapest of the GPUs that compute in bfloat16, as the codec does.
GPU_TYPE = "nvidia-l4"
# Four vCPUs decode photos for one GPU, and 16 GB hold two photos of up to 48 megapixels (4.8 GB each). Photos
# up to 100 megapixels need g2-standard-8, with 32 GB. Larger ones also need
# --number_of_worker_harness_threads 1, since the GPU's own memory is 24 GB in both.
GPU_MACHINE_TYPE = "g2-standard-4"
# Dataflow's newest. That is 525 or later, so the worker image is built for CUDA 12.6: CUDA 13 wants 580.
_DRIVER = "install-nvidia-driver:5xx"

# Listing, looking up finished photos and writing manifests: requests to storage, and 200,000 rows at a time.
_OTHER_MACHINE_TYPE = "e2-standard-2"
# One Beam process a worker. Dataflow would start one for each vCPU, each with a codec and photos in the one
# GPU's memory. Photos are decoded in child processes.
_ONE_PROCESS = "no_use_multiple_sdk_containers"
# That process works on two bundles: while one is range-coded on the CPU, the other has the GPU.
_THREADS = 2
# Bounds the cost of an hour and the quota of L4s. Below it Dataflow scales by the work that is left.
_MAX_WORKERS = 8
# For an image of an estimated 8 GB; photos stay in memory, and shuffles in Dataflow's service. G2 machines
# take no standard disks, and on SSD the image is unpacked sooner.
_DISK_GB = 50
_DISK_TYPE = "compute.googleapis.com/projects//zones//diskTypes/pd-ssd"
# No cheaper scheduling. FlexRS (--flexrs_goal), Dataflow's one way to spot VMs, takes neither GPUs nor
# resource hints; flex-start, for when L4s are scarce, is a preview.

# The image holds everything that runs. What the submitter has installed does not matter.
_NO_SUBMITTER = "disable_logging_submission_environment"


class GpuOptions(PipelineOptions):
    """Which GPU, on which machine; Beam's --machine_type is that of the workers without a GPU."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        parser.add_argument("--gpu_type", default=GPU_TYPE)
        parser.add_argument("--gpu_machine_type", default=GPU_MACHINE_TYPE)


def choose_dataflow_options(options: PipelineOptions) -> None:
    """Fills in options of a job on Dataflow that are not given; does nothing for other runners.

    Raises:
        ValueError: naming missing options that have no default.
    """
    if not is_dataflow(options):
        return
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    needed = {
        "--project": cloud.project,
        "--region": cloud.region,
        "--temp_location": cloud.temp_location,
        "--sdk_container_image": worker.sdk_container_image,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise ValueError(f"Dataflow needs {', '.join(missing)}, too: see infra/README.md")
    options.view_as(StandardOptions).runner = "DataflowRunner"  # some of Beam knows it by this name only
    cloud.job_name = cloud.job_name or f"rgc-{datetime.now(UTC):%Y%m%d-%H%M%S}"  # Beam's names the user
    worker.machine_type = worker.machine_type or _OTHER_MACHINE_TYPE
    worker.autoscaling_algorithm = worker.autoscaling_algorithm or "THROUGHPUT_BASED"
    worker.max_num_workers = worker.max_num_workers or _MAX_WORKERS
    worker.disk_size_gb = worker.disk_size_gb or _DISK_GB
    worker.disk_type = worker.disk_type or _DISK_TYPE
    debug, setup = options.view_as(DebugOptions), options.view_as(SetupOptions)
    debug.number_of_worker_harness_threads = debug.number_of_worker_harness_threads or _THREADS
    for experiment in (_ONE_PROCESS, _NO_SUBMITTER):
        debug.add_experiment(experiment)
    setup.save_main_session = bool(setup.save_main_session)  # Beam's default on Dataflow is yes
    # Functions that Beam pickles by value name their file.
    cloudpickle_pickler.DEFAULT_CONFIG.filepath_interceptor = _without_place


def inference_hints(options: PipelineOptions) -> dict[str, str]:
    """For `with_resource_hints` of the steps that need the GPU; empty for other runners than Dataflow."""
    if not is_dataflow(options):
        return {}
    gpu = options.view_as(GpuOptions)
    return {"accelerator": f"type:{gpu.gpu_type};count:1;machine_type:{gpu.gpu_machine_type};{_DRIVER}"}


def _without_place(path: str) -> str:
    """ "/home/me/rgc/transforms/find.py" as "transforms/find.py": all a traceback needs."""
    return "/".join(Path(path).parts[-2:])
