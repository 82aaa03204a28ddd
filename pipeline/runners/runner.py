"""Choosing a Beam runner, and sharing this machine's cores among its workers."""

import os
import shlex
import socket
import sys

import torch
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.pipeline import Pipeline
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.runners.malloc import freed_memory_given_back, share_freed_memory
from transforms.progress import WORKER_ENDED

_SECONDS_TO_CONNECT = 30
_LONGEST_JOB_SECONDS = 30 * 24 * 3600


def runner_name(options: PipelineOptions) -> str:
    """The runner's name as Beam reads it, in any case and with or without "Runner": "dataflow", for one."""
    name = options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER
    return name.rpartition(".")[2].lower().removesuffix("runner")


def is_local(options: PipelineOptions) -> bool:
    return runner_name(options) in ("direct", "fnapi")


def local_runner(options: PipelineOptions, stop_path: str | None = None) -> PipelineRunner | None:
    """Beam's Python runner where a local run is asked for, else None: Beam makes what `options` name.

    Beam's own DirectRunner would first try to download Prism, its runner in Go.

    Args:
        stop_path: see `worker_command`.
    """
    if not is_local(options):
        return None
    share_freed_memory()
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    if options.view_as(DirectOptions).direct_running_mode == "multi_processing":
        environment = SubprocessSDKEnvironment.from_command_string(worker_command(stop_path))
        return _ProcessesRunner(environment, provision_info=provision)
    return FnApiRunner(provision_info=provision)


def wait_for_the_job(options: PipelineOptions) -> None:
    """Lets Beam wait for a job on a portable runner for as long as it takes.

    The seconds that Beam (2.77) gives its job server to answer, 300 at first, also end the streams on which
    it hears of the job, and so the waiting. To look whether the server is there takes none of them.

    Raises:
        OSError: nothing answers at --job_endpoint.
    """
    if is_local(options) or runner_name(options) == "dataflow":
        return
    portable = options.view_as(PortableOptions)
    portable.job_server_timeout = _LONGEST_JOB_SECONDS
    endpoint = portable.job_endpoint
    if endpoint in (None, "embed"):  # Beam starts one itself
        return
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise OSError(f"no job server answers at {endpoint}: {error}") from error


def worker_command(stop_path: str | None) -> str:
    """What starts a worker process, in a shell.

    It ignores Ctrl-C, which is meant for the run: see `on_interrupt`. Where it is killed, the shell asks the
    other workers to stop, and says which one it was: Beam gives the run up only once they have done all of
    their share, to the morning.
    """
    command = f"{shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
    if stop_path is None:
        return f"trap '' INT TERM; exec {command}"
    stop = f"echo {shlex.quote(WORKER_ENDED)} $! >> {shlex.quote(stop_path)}"
    return f"trap '' INT TERM; {command} & wait $! || {{ {stop}; }} 2> {os.devnull}"


class _ProcessesRunner(FnApiRunner):
    """Beam's local runner with worker processes that `worker_command` starts.

    Asked for "multi_processing", it would start them by a command of its own.
    """

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode = "in_memory"  # that is: leave the environment as it is
        try:
            with freed_memory_given_back():
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
    if workers is None or options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        return None
    return max(torch.get_num_threads() // workers, 1)
