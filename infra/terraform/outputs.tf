# infra/launch.sh reads these.

output "project" {
  description = "Project that jobs run in."
  value       = var.project
}

output "region" {
  description = "Region that jobs run in."
  value       = var.region
}

output "registry" {
  description = "What the names of images begin with."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "temp_bucket" {
  description = "Name of the bucket for templates and temporary files."
  value       = google_storage_bucket.temp.name
}

output "worker" {
  description = "Service account that jobs run as."
  value       = google_service_account.worker.email
}

output "output_bucket" {
  description = "Name of the bucket that jobs may write to."
  value       = google_storage_bucket.output.name
}
