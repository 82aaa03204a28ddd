"""Choosing a Beam runner, and sharing this machine's cores among its workers."""

import shlex
import sys

import torch
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.pipeline import Pipeline
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

_LOCAL = (None, "DirectRunner", "FnApiRunner")


def is_local(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner in _LOCAL


def local_runner(options: PipelineOptions) -> PipelineRunner | None:
    """Beam's Python runner where a local run is asked for, else None: Beam makes what `options` name.

    Beam's own DirectRunner would first try to download Prism, its runner in Go.
    """
    if not is_local(options):
        return None
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    if options.view_as(DirectOptions).direct_running_mode == "multi_processing":
        return _ProcessesRunner(_WORKER, provision_info=provision)
    return FnApiRunner(provision_info=provision)


class _ProcessesRunner(FnApiRunner):
    """Beam's local runner with worker processes in an environment of ours.

    Asked for "multi_processing" it would make an environment whose workers die of the Ctrl-C that is
    meant for the run: see `on_interrupt`.
    """

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode = "in_memory"  # that is: leave the environment as it is
        try:
            return super().run_pipeline(pipeline, options)
        finally:
            direct.direct_running_mode = "multi_processing"


_WORKER = SubprocessSDKEnvironment.from_command_string(
    f"trap '' INT TERM; exec {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
)


def local_workers(options: PipelineOptions) -> int | None:
    """Workers that a local runner shares the work out to beforehand; None for any other runner."""
    if not is_local(options):
        return None
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "in_memory":
        return 1
    return direct.direct_num_workers or torch.get_num_threads()


def torch_threads(options: PipelineOptions) -> int | None:
    """Threads for torch in each local worker process, so that together they fill the cores, not more."""
    workers = local_workers(options)
    if workers is None or options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        return None
    return max(torch.get_num_threads() // workers, 1)
