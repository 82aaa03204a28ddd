"""Portable runners: a job server that Beam hands the job to."""

import socket

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from pipeline.runners.names import has_job_server

_SECONDS_TO_CONNECT = 30
_LONGEST_JOB_SECONDS = 30 * 24 * 3600


def wait_for_the_job(options: PipelineOptions) -> None:
    """Makes Beam wait for a job on a portable runner for as long as it takes.

    Beam (2.77) gives its job server 300 seconds to answer. This limit also ends the streams on which Beam
    hears of the job, and with them the waiting. So it is raised, and a connection shows whether a server is
    there.

    Raises:
        OSError: nothing answers at --job_endpoint.
    """
    if not has_job_server(options):
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
