"""Submits the compress pipeline to Dataflow, against a storage server on loopback instead of Google's.

Beam writes the job document there that it would otherwise send to Google.

    python -m tests.infra.job        # prints the document's environment section
"""

import base64
import bz2
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import google.auth
from apache_beam.portability.api import beam_runner_api_pb2
from google.auth.credentials import AnonymousCredentials

from infra.launcher.main import main
from tests.storage import BUCKET, storage_server
from transforms.storage import gcs
from transforms.storage.files import write_bytes

IMAGE = "europe-west4-docker.pkg.dev/my-project/rgc/worker:0123456789ab"
INPUT, OUTPUT = "gs://photos/2019", "gs://my-project-rgc/2019"
PARAMETERS = [f"--input={INPUT}", f"--output={OUTPUT}", "--target_ms_ssim=0.97"]
# What the launcher of a Flex Template adds, and the image that infra/launch.sh does.
FROM_LAUNCHER = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west4",
    f"--temp_location=gs://{BUCKET}/temp",
    f"--template_location=gs://{BUCKET}/job.json",
    f"--sdk_container_image={IMAGE}",
]
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_BZ2 = base64.b64encode(b"BZh9")[:5]  # how Beam's pickles begin


@dataclass(frozen=True)
class Submitted:
    """What a submission leaves in storage: the job document, and files by name."""

    job: dict[str, Any]
    files: dict[str, bytes]

    @property
    def environment(self) -> dict[str, Any]:
        return self.job["environment"]

    @property
    def pipeline(self) -> beam_runner_api_pb2.Pipeline:
        return beam_runner_api_pb2.Pipeline.FromString(self.files["pipeline.pb"])

    def pickles(self) -> Iterator[bytes]:
        """Whatever is pickled in the pipeline: functions, their arguments, coders."""
        for match in _BASE64.finditer(self.files["pipeline.pb"]):
            start = match.group().find(_BZ2)
            if start >= 0:
                text = match.group()[start:]
                yield bz2.decompress(base64.b64decode(text[: len(text) // 4 * 4]))


@contextmanager
def submitting() -> Iterator[None]:
    """For as long as the context lasts, jobs are submitted to a storage server; there is one photo."""
    anonymous = mock.patch.object(google.auth, "default", lambda **_: (AnonymousCredentials(), None))
    with storage_server() as server, mock.patch.dict(os.environ, server.environment), anonymous:
        gcs._client.cache_clear()
        for bucket in ("photos", "my-project-rgc"):
            gcs.client().create_bucket(bucket)
        write_bytes(f"{INPUT}/a.jpg", b"x")
        try:
            yield
        finally:
            gcs._client.cache_clear()


def what_was_submitted() -> Submitted:
    """What was submitted, while the server is still there."""
    blobs = {blob.name: blob.download_as_bytes() for blob in gcs.client().list_blobs(BUCKET)}
    job = json.loads(blobs.pop("job.json"))
    return Submitted(job, {name.rpartition("/")[2]: data for name, data in blobs.items()})


def submit(*more: str) -> Submitted:
    """Submits with the flags that a Flex Template's launcher gives, and `more`."""
    with submitting():
        main([*PARAMETERS, *FROM_LAUNCHER, *more])
        return what_was_submitted()


if __name__ == "__main__":
    print(json.dumps(submit().environment, indent=2))
