"""Terraform's files, parsed; without Google's provider, which Terraform would have to download."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

from pipeline.estimate.costs import LONGEST_JOB_DAYS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra/terraform"
FILES = sorted(FOLDER.glob("*.tf"))
TEXT = "\n".join(file.read_text() for file in FILES)
WORKER = "${google_service_account.worker.member}"

GOOD = {
    "project": "my-project",
    "region": "europe-west4",
    "input_bucket": "my-photos",
    "billing_account": "012345-6789AB-CDEF01",
    "monthly_budget": "500",
}
BAD = {
    "project": "My Project",
    "region": "europe-west4-a",
    "input_bucket": "gs://my-photos",
    "billing_account": "my account",
    "monthly_budget": "0.5",
}

needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")


def blocks(kind: str) -> dict[str, dict[str, Any]]:
    """Blocks of one kind by address: a variable's name, a resource's type and name."""
    options = hcl2.SerializationOptions(strip_string_quotes=True, with_comments=False, explicit_blocks=False)
    found: dict[str, dict[str, Any]] = {}
    for file in FILES:
        for block in hcl2.loads(file.read_text(), serialization_options=options).get(kind, []):
            ((name, content),) = block.items()
            if kind in ("resource", "data"):
                ((own, content),) = content.items()
                name = f"{name}.{own}"
            found[name] = content
    return found


def resources(kind: str) -> dict[str, dict[str, Any]]:
    return {
        address.partition(".")[2]: content
        for address, content in blocks("resource").items()
        if address.startswith(f"{kind}.")
    }


def test_variables_are_described_checked_and_used() -> None:
    variables = blocks("variable")
    assert variables.keys() == GOOD.keys()
    for name, variable in variables.items():
        assert variable["description"] and variable["type"], name
        assert variable["validation"][0]["error_message"], name
    others = "\n".join(file.read_text() for file in FILES if file.name != "variables.tf")
    assert set(re.findall(r"\bvar\.(\w+)", others)) == variables.keys()


def test_what_is_referred_to_is_there() -> None:
    """As `terraform validate` would check, if it had the provider."""
    references = set(re.findall(r"(?<![\w.\"])((?:data\.)?google_\w+\.\w+)", TEXT))
    known = blocks("resource").keys() | {f"data.{address}" for address in blocks("data")}
    assert len(references) > 5 and references <= known


def test_provider_is_pinned() -> None:
    (terraform,) = re.findall(r"^terraform \{.*?^\}", TEXT, re.DOTALL | re.MULTILINE)
    assert re.search(r'source  = "hashicorp/google"\n +version = "\d+\.\d+\.\d+"', terraform)


def test_worker_has_the_least_privilege() -> None:
    members = {
        name: content for name, content in blocks("resource").items() if re.search("_iam_member", name)
    }
    assert not re.search("_iam_(binding|policy)", TEXT)  # these would take roles away from others
    assert all(content["member"] == WORKER for content in members.values())
    granted = {(name.partition(".")[0], content["role"]) for name, content in members.items()}
    assert granted == {
        ("google_project_iam_member", "${google_project_iam_custom_role.dataflow_worker.name}"),
        ("google_storage_bucket_iam_member", "roles/storage.objectViewer"),
        ("google_storage_bucket_iam_member", "roles/storage.objectUser"),
        ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.reader"),
    }


def test_no_role_reaches_the_objects_of_all_buckets() -> None:
    """As roles/dataflow.worker does, which the custom role stands for: the photos could be overwritten."""
    (role,) = resources("google_project_iam_custom_role").values()
    permissions = role["permissions"]
    storage = {permission for permission in permissions if permission.startswith("storage.")}
    assert storage == {"storage.buckets.get"}
    assert {"dataflow.workItems.lease", "dataflow.workItems.update", "dataflow.shuffle.read"} < set(
        permissions
    )
    assert not re.search(r"iam\.|setIamPolicy|actAs|\*", " ".join(permissions))
    assert permissions == sorted(set(permissions))


def test_originals_can_only_be_read() -> None:
    buckets = resources("google_storage_bucket_iam_member").values()
    roles = {content["role"] for content in buckets if content["bucket"] == "${var.input_bucket}"}
    assert roles == {"roles/storage.objectViewer"}
    assert all(
        "input_bucket" not in content["name"] for content in resources("google_storage_bucket").values()
    )


def test_buckets_are_private_and_only_temporary_files_expire() -> None:
    buckets = resources("google_storage_bucket")
    for bucket in buckets.values():
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
    output, temp = buckets["output"], buckets["temp"]
    assert "lifecycle_rule" not in output and output["force_destroy"] is False
    assert output["lifecycle"][0]["prevent_destroy"] is True
    assert output["soft_delete_policy"][0]["retention_duration_seconds"] >= 7 * 86400
    assert temp["soft_delete_policy"][0]["retention_duration_seconds"] == 0
    condition = temp["lifecycle_rule"][0]["condition"][0]
    assert condition["age"] >= LONGEST_JOB_DAYS + 7  # a file is made before the job begins
    prefixes = condition["matches_prefix"]
    assert prefixes == ["temp/", "staging/"]  # but not templates/
    launch = (ROOT / "infra/launch.sh").read_text()
    used = set(re.findall(r"gs://\$temp_bucket/(\w+)", launch))
    assert used == {prefix.rstrip("/") for prefix in prefixes} | {"templates"}


def test_a_budget_alerts_before_it_is_used_up() -> None:
    (budget,) = resources("google_billing_budget").values()
    assert budget["amount"][0]["specified_amount"][0]["units"] == "${tostring(var.monthly_budget)}"
    assert budget["dynamic"][0]["threshold_rules"]["for_each"] == [0.5, 0.9, 1.0]


def test_apis_that_are_used_are_enabled() -> None:
    services = set(re.findall(r'"(\w+)\.googleapis\.com"', TEXT))
    assert {"dataflow", "compute", "storage", "artifactregistry", "billingbudgets", "iam"} <= services


def test_launch_script_reads_every_output_there_is() -> None:
    read = re.findall(r"\$\(made (\w+)\)", (ROOT / "infra/launch.sh").read_text())
    outputs = blocks("output")
    assert set(read) == outputs.keys()
    assert all(output["description"] for output in outputs.values())


@needs_terraform
def test_formatted() -> None:
    subprocess.run(["terraform", f"-chdir={FOLDER}", "fmt", "-check", "-diff"], check=True)


@needs_terraform
def test_validation_of_variables(tmp_path: Path) -> None:
    """Variables alone need no provider."""
    shutil.copy(FOLDER / "variables.tf", tmp_path)

    def refused(values: dict[str, str]) -> list[str]:
        flags = [f"-var={name}={value}" for name, value in values.items()]
        plan = ["terraform", f"-chdir={tmp_path}", "plan", "-input=false", "-no-color", *flags]
        result = subprocess.run(plan, capture_output=True, text=True, check=False)
        assert (result.returncode == 0) == ("Error" not in result.stderr)
        return re.findall(r'\d+: variable "(\w+)"', result.stderr)

    assert refused(GOOD) == []
    assert sorted(refused(BAD)) == sorted(BAD)
