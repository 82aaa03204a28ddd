"""Options that are not rgc's own: to Beam, to a runner, or refused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from tests.runs import rgc


class _FlinkLike(beam_job_api_pb2_grpc.JobServiceServicer):
    """A job server that has an option of its own, as Flink's has, and takes no job."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def DescribePipelineOptions(self, *_: object) -> beam_job_api_pb2.DescribePipelineOptionsResponse:
        kind = beam_job_api_pb2.PipelineOptionType.INTEGER
        option = beam_job_api_pb2.PipelineOptionDescriptor(name="max_bundle_size", type=kind)
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=[option])

    def Prepare(self, request: beam_job_api_pb2.PrepareJobRequest, context: grpc.ServicerContext) -> None:
        self.options = dict(request.pipeline_options)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "seen enough")


@pytest.fixture
def job_server() -> Iterator[tuple[_FlinkLike, str]]:
    server, service = grpc.server(ThreadPoolExecutor(2)), _FlinkLike()
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


def test_an_option_that_only_the_runner_knows_reaches_it(
    job_server: tuple[_FlinkLike, str], photo_folder: Path, tmp_path: Path
) -> None:
    service, endpoint = job_server
    portable = ["--runner", "PortableRunner", "--job_endpoint", endpoint, "--max_bundle_size", "7"]
    result = rgc("compress", photo_folder, tmp_path / "out", *portable)
    assert "seen enough" in result.output
    assert service.options["beam:option:max_bundle_size:v1"] == "7"


@pytest.mark.parametrize("command", ["compress", "decompress"])
@pytest.mark.parametrize("runner", ["DaskRunner", "dask", "apache_beam.runners.dask.dask_runner.DaskRunner"])
def test_dask_is_refused_with_the_reason(
    command: str, runner: str, photo_folder: Path, tmp_path: Path
) -> None:
    result = rgc(command, photo_folder, tmp_path / "out", "--runner", runner)
    assert result.exit_code == 2
    assert "--runner" in result.output and "photos would vanish" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
