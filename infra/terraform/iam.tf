# The workers and the launcher run as this account, not as Compute Engine's, which may edit the project.
resource "google_service_account" "worker" {
  account_id   = "rgc-worker"
  display_name = "rgc on Dataflow"

  depends_on = [google_project_service.needed]
}

# The only role on the whole project: to take work from Dataflow, to log and to report metrics. It is
# roles/dataflow.worker as of 2026-11 without storage.objects.get and .create, which let the workers read
# every bucket of the project and write to each, the photos' included; without logging.logEntries.route,
# which nothing here needs; and without what is for streaming. Of buckets it reads the metadata only.
resource "google_project_iam_custom_role" "dataflow_worker" {
  role_id     = "rgcDataflowWorker"
  title       = "Dataflow worker without objects"
  description = "roles/dataflow.worker for batch jobs, without access to any object in storage"

  permissions = [
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "dataflow.jobs.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "logging.logEntries.create",
    "monitoring.timeSeries.create",
    "storage.buckets.get",
  ]

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "dataflow_worker" {
  project = var.project
  role    = google_project_iam_custom_role.dataflow_worker.name
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
