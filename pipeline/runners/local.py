"""Beam's local runner, and sharing this machine's cores among its workers."""

import os
import shlex
import sys

import torch
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.pipeline import Pipeline
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.runners.names import is_local
from transforms.progress import WORKER_ENDED

# A worker process has some twenty threads, which hand rows on, megabytes at a time. glibc gives each thread
# an arena of its own, and no other thread can use what is free in it.
_ONE_ARENA = "MALLOC_ARENA_MAX=1"


def local_runner(options: PipelineOptions, stop_path: str | None = None) -> PipelineRunner | None:
    """Beam's Python runner for a local run, else None: then Beam makes the runner that `options` name.

    Beam's own DirectRunner would first try to download Prism, its runner in Go.

    Args:
        stop_path: see `worker_command`.
    """
    if not is_local(options):
        return None
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    if not is_in_this_process(options):
        environment = SubprocessSDKEnvironment.from_command_string(worker_command(stop_path))
        return _ProcessesRunner(environment, provision_info=provision)
    return FnApiRunner(provision_info=provision)


def is_in_this_process(options: PipelineOptions) -> bool:
    """Whether a local runner's workers are threads: if one ends the process, that ends the run."""
    return is_local(options) and options.view_as(DirectOptions).direct_running_mode != "multi_processing"


def worker_command(stop_path: str | None) -> str:
    """A shell command that starts a worker process.

    The worker ignores Ctrl-C: see `run_interruptibly`. If it is killed, the shell asks the other workers to
    stop. Beam itself gives up only once they have done all of their share.
    """
    command = f"{_ONE_ARENA} {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
    if stop_path is None:
        return f"trap '' INT TERM; exec env {command}"
    stop = f"echo {shlex.quote(WORKER_ENDED)} >> {shlex.quote(stop_path)}"
    return f"trap '' INT TERM; {command} & wait $! || {{ {stop}; }} 2> {os.devnull}"


class _ProcessesRunner(FnApiRunner):
    """Beam's local runner with worker processes that `worker_command` starts.

    For "multi_processing", Beam would start them by a command of its own.
    """

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode = "in_memory"  # that is: leave the environment as it is
        try:
            return super().run_pipeline(pipeline, options)
        finally:
            direct.direct_running_mode = "multi_processing"


def local_workers(options: PipelineOptions) -> int | None:
    """Workers that a local runner shares the work out to beforehand; None for any other runner."""
    if not is_local(options):
        return None
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "in_memory":
        return 1
    return direct.direct_num_workers or os.cpu_count() or 1  # 0 is for all CPUs, in Beam, too


def torch_threads(options: PipelineOptions) -> int | None:
    """Threads for torch in each local worker process, so that together they fill the cores, not more."""
    workers = local_workers(options)
    if workers is None or is_in_this_process(options):
        return None
    return max(torch.get_num_threads() // workers, 1)
