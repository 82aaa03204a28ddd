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

# A GPU encodes photos of similar sizes together, and a large batch holds more of these. Each pixel takes some
# 100 bytes of its memory. A CPU is no faster for larger batches.
GPU_BATCH_PIXELS, CPU_BATCH_PIXELS = 1 << 24, 1 << 20


def choose_execution(options: PipelineOptions, device: str, max_batch_pixels: int | None = None) -> Execution:
    """What suits the runner and the device.

    A local run's device is resolved here, once for all its workers; that of others on each worker.

    Args:
        max_batch_pixels: None for what suits the device.
    """
    if is_dataflow(options):
        device = "cuda"  # not "auto": without a working GPU the CPU would encode, at a GPU's price
    elif is_local(options):
        device = choose_device(device)
    on_cpu = is_local(options) and device == "cpu"
    # A GPU is done with a photo long before a processor has range-coded it. Each that waits takes up to 12
    # bytes a pixel: little of the memory that comes with a processor, but several workers share those.
    many_writes = device == "cuda" and local_workers(options) in (None, 1)
    return Execution(
        device=device,
        batch_pixels=max_batch_pixels or (CPU_BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS),
        workers=local_workers(options),
        threads=torch_threads(options),
        tries_again=not is_in_this_process(options),
        hints=inference_hints(options),
        writes=None if many_writes else PREFETCHED_PHOTOS,
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
