# The workers and the launcher run as this account, not as Compute Engine's, which may edit the project.
resource "google_service_account" "worker" {
  account_id   = "rgc-worker"
  display_name = "rgc on Dataflow"

  depends_on = [google_project_service.needed]
}

# The only role on the whole project: to take work from Dataflow, to log and to report metrics.
resource "google_project_iam_member" "dataflow_worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "read_input" {
  bucket = var.input_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

# Not objectCreator: a changed photo's .rgc is replaced, and one that is no longer worth it is removed.
resource "google_storage_bucket_iam_member" "write_output" {
  bucket = google_storage_bucket.output.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "write_temp" {
  bucket = google_storage_bucket.temp.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "pull_images" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}
