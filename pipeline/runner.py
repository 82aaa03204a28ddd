"""Choosing a Beam runner, and sharing this machine's cores among its workers."""

import torch
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner

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
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(provision))


def torch_threads(options: PipelineOptions) -> int | None:
    """Threads for torch in each local worker process, so that together they fill the cores, not more."""
    direct = options.view_as(DirectOptions)
    if not is_local(options) or direct.direct_running_mode != "multi_processing":
        return None
    cores = torch.get_num_threads()
    return max(cores // (direct.direct_num_workers or cores), 1)
