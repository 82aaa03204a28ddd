"""Running a job's graph on the runner that Beam's options name."""

from collections.abc import Callable

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from model.files import choose_device
from pipeline.execution import Execution
from pipeline.runners.dataflow import inference_hints
from pipeline.runners.local import is_in_this_process, local_runner, local_workers, torch_threads
from pipeline.runners.names import is_dataflow, is_local
from transforms.threaded_map import PREFETCHED_PHOTOS

# A GPU is idle while it waits for a small photo's operations: some 1,500 each, together a third of that. Each
# pixel takes some 100 bytes of its memory. A CPU is no faster for more.
GPU_BATCH_PIXELS, CPU_BATCH_PIXELS = 1 << 24, 1 << 20


def batch_pixels(device: str, options: PipelineOptions) -> int:
    """The most pixels of a batch, where nobody says."""
    on_cpu = is_local(options) and choose_device(device) == "cpu"
    return CPU_BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS


def writes(device: str, options: PipelineOptions) -> int | None:
    """See `Execution.writes`. A GPU is done with a photo long before a processor has range-coded it.

    Each photo that waits takes up to 12 bytes a pixel: little of the memory that comes with a processor. Of
    several local workers, each has too few of them for that.
    """
    on_gpu = device == "cuda" or (is_local(options) and choose_device(device) == "cuda")
    return None if on_gpu and local_workers(options) in (None, 1) else PREFETCHED_PHOTOS


def choose_execution(options: PipelineOptions, device: str, max_batch_pixels: int | None = None) -> Execution:
    """What suits the runner and the device. `max_batch_pixels` of None stands for `batch_pixels`."""
    if is_dataflow(options):
        device = "cuda"  # not "auto": without a working GPU the CPU would encode, at a GPU's price
    return Execution(
        device=device,
        batch_pixels=max_batch_pixels or batch_pixels(device, options),
        workers=local_workers(options),
        threads=torch_threads(options),
        tries_again=not is_in_this_process(options),
        hints=inference_hints(options),
        writes=writes(device, options),
    )


def run(
    graph: Callable[[Pipeline, Execution], None], execution: Execution, options: PipelineOptions
) -> PipelineResult:
    """Runs a graph to its end.

    Raises:
        Exception: whatever a runner raises, with a worker's traceback in it.
    """
    with Pipeline(runner=local_runner(options, execution.stop_path), options=options) as pipeline:
        graph(pipeline, execution)
    return pipeline.result
