variable "project" {
  description = "Id of the Google Cloud project that runs the job and is billed for it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits and hyphens; it is not the name."
  }
}

variable "region" {
  description = "Where everything is made: best where the photos are, and a region that has L4s."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region is needed, such as europe-west4; neither a zone nor a multi-region."
  }
}

variable "input_bucket" {
  description = "Name of the bucket with the photos. It is there already, and the workers may only read it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.input_bucket))
    error_message = "The name alone is needed, without gs:// and without a folder."
  }
}

variable "billing_account" {
  description = "Id of the billing account that the project is billed to."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "An id such as 012345-6789AB-CDEF01 is needed: gcloud billing accounts list."
  }
}

variable "monthly_budget" {
  description = "In whole units of the billing account's currency. Alerts go out at 50%, 90% and 100%."
  type        = number

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole number from 1 is needed."
  }
}
