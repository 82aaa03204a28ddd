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
# Four vCPUs decode and range-code photos for one GPU, and 16 GB hold two photos of up to 48 megapixels
# (4.8 GB each) and eight that wait to be range-coded (0.3 GB each, 0.6 in later iterations). Photos up to 100
# megapixels need g2-standard-8, with 32 GB. Larger ones also need --number_of_worker_harness_threads 1, since
# the GPU's own memory is 24 GB in both.
GPU_MACHINE_TYPE = "g2-standard-4"
# Dataflow's newest. That is 525 or later, so the worker image is built for CUDA 12.6: CUDA 13 wants 580. The
# image says what takes 12.6's place.
_DRIVER = "install-nvidia-driver:5xx"

# Listing, looking up finished photos and writing manifests: requests to storage, and 200,000 rows at a time.
_OTHER_MACHINE_TYPE = "e2-standard-2"
# One Beam process a worker, not measured against more. Dataflow would start one for each vCPU, each with a
# CUDA context, a codec and photos of its own, which take 4.8 GB of a worker's 16 if they have 48 megapixels.
# (NVIDIA's MPS, which shares a GPU, sets no limit on their number.) Range coding, which would hold Python's
# lock most, has processes of its own: see `model.coding.processes`. A trial run shows whether more Beam
# processes are needed (infra/README.md).
_ONE_PROCESS = "no_use_multiple_sdk_containers"
# That process works on two bundles: while one is range-coded on the CPU, the other has the GPU.
_THREADS = 2
# Bounds the cost of an hour and the quota of L4s. Up to it Dataflow scales by the work that is left.
_MAX_WORKERS = 8
# An element that takes longer ends its process, and the bundle is tried again; without this limit Dataflow
# waits for over 100 minutes. A request to storage is tried for a quarter of an hour, and decoding ends after
# two minutes.
_STUCK_MINUTES = 30
# For an image of an estimated 8 GB; photos stay in memory, and shuffles in Dataflow's service.
_DISK_GB = 50
# On SSD the image is unpacked sooner. The type is one for both pools, and follows the GPU's machine: G2, A2
# and A3 High (L4, A100, H100) take Persistent Disks, G2 no standard ones and no Hyperdisk Balanced. These
# take Hyperdisk only, which E2 does not.
_HYPERDISK_ONLY = ("a3-ultragpu-", "a4-", "a4x-", "g4-")
_OTHER_MACHINE_TYPE_ON_HYPERDISK = "n4-standard-2"
_DISK_TYPE = "compute.googleapis.com/projects//zones//diskTypes/{}"
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
    on_hyperdisk = options.view_as(GpuOptions).gpu_machine_type.startswith(_HYPERDISK_ONLY)
    other = _OTHER_MACHINE_TYPE_ON_HYPERDISK if on_hyperdisk else _OTHER_MACHINE_TYPE
    worker.machine_type = worker.machine_type or other
    worker.autoscaling_algorithm = worker.autoscaling_algorithm or "THROUGHPUT_BASED"
    worker.max_num_workers = worker.max_num_workers or _MAX_WORKERS
    worker.disk_size_gb = worker.disk_size_gb or _DISK_GB
    disk = "hyperdisk-balanced" if on_hyperdisk else "pd-ssd"
    worker.disk_type = worker.disk_type or _DISK_TYPE.format(disk)
    if worker.element_processing_timeout_minutes is None:  # 0 is for no limit
        worker.element_processing_timeout_minutes = _STUCK_MINUTES
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
