terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "7.46.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # The budgets' API asks which project's quota a call counts on.
  billing_project       = var.project
  user_project_override = true
}
