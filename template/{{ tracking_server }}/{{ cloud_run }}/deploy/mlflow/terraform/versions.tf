terraform {
  required_version = ">= 1.11" # the first that can pass a password on and keep it nowhere

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.0"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7, < 4.0"
    }
  }

  # The bucket that `make bootstrap` makes; `make mlflow-plan` names it, and a folder for this alone.
  backend "gcs" {}
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}
