terraform {
  required_version = ">= 1.11" # the first that can pass a password on and keep it nowhere

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  # The bucket that `make bootstrap` makes; `make mlflow-plan` names it, and a key for this alone.
  backend "s3" {
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = var.name, Environment = "mlflow", ManagedBy = "terraform" }
  }
}
