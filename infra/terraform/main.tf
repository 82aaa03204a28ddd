locals {
  services = [
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "storage.googleapis.com",
  ]
}

resource "google_project_service" "needed" {
  for_each = toset(local.services)

  service            = each.value
  disable_on_destroy = false # other things in the project may need it
}

# The worker and launcher images.
resource "google_artifact_registry_repository" "images" {
  repository_id = "rgc"
  location      = var.region
  format        = "DOCKER"

  # Each commit that is launched leaves gigabytes. Kept are the last five versions of each image.
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      older_than = "2592000s" # 30 days
    }
  }

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 5
    }
  }

  depends_on = [google_project_service.needed]
}

# Alerts go by mail to the billing account's administrators. A budget stops nothing: what bounds a job's
# bill is its number of workers.
resource "google_billing_budget" "alert" {
  billing_account = var.billing_account
  display_name    = "rgc in ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]

    content {
      threshold_percent = threshold_rules.value
    }
  }

  depends_on = [google_project_service.needed]
}

data "google_project" "this" {
  depends_on = [google_project_service.needed]
}
