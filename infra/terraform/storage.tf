# The .rgc files and manifests. The bucket of the photos is not managed here: nothing in this folder,
# not even `terraform destroy`, can change it, and the workers may only read it (see iam.tf).
resource "google_storage_bucket" "output" {
  name                        = "${var.project}-rgc"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # Once originals are deleted to save their storage, these files are all there is of them: what is
  # deleted or overwritten by mistake can be had back for 30 days.
  soft_delete_policy {
    retention_duration_seconds = 2592000
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.needed]
}

# What jobs stage and leave behind, and the templates.
resource "google_storage_bucket" "temp" {
  name                        = "${var.project}-rgc-temp"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  # Without soft delete, else every temporary file is paid for a week longer.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age            = 35 # days; a week longer than any job, see LONGEST_JOB_DAYS
      matches_prefix = ["temp/", "staging/"]
    }

    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.needed]
}
