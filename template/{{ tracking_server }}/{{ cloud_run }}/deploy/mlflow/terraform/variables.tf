variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Where everything runs."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "What everything is called, before `mlflow`; the service's Terraform has it too."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,12}[a-z0-9]$", var.name))
    error_message = "Use 3 to 14 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "ingress" {
  description = "From where the server can be asked: `all` the Internet, behind its login alone, or `internal`, the project's networks, which GitHub's runners and laptops are not in. It has no default, because it is yours to decide."
  type        = string

  validation {
    condition     = contains(["all", "internal"], var.ingress)
    error_message = "The ingress is all or internal."
  }
}

variable "image" {
  description = "The server's image, by digest; nothing runs while there is none. `make mlflow-image` prints it."
  type        = string
  default     = ""

  validation {
    condition     = var.image == "" || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest, as `make mlflow-image` prints it."
  }
}

variable "hosts" {
  description = "Further names that the server is reached by, such as a domain that is mapped to it."
  type        = set(string)
  default     = []
}

variable "min_instances" {
  description = "Instances that wait for requests, each about 25 USD a month; with 0, whoever comes first waits half a minute."
  type        = number
  default     = 1
}

variable "max_instances" {
  description = "The most instances. Each opens up to 30 connections to the database."
  type        = number
  default     = 1
}

variable "memory" {
  description = "Memory of an instance. The server alone takes 1 GiB, and a file on its way through is in memory as a whole."
  type        = string
  default     = "2Gi"
}

variable "database_tier" {
  description = "The size of the database. db-g1-small is about 27 USD a month and outside Google's SLA; db-custom-1-3840 is about 50, and inside."
  type        = string
  default     = "db-g1-small"
}

variable "database_standby" {
  description = "Whether a second machine in another zone takes over; it doubles the price of the database."
  type        = bool
  default     = false
}

variable "password_version" {
  description = "A higher number makes a new password of the database and a new key of sessions. The admin's password is changed in MLflow."
  type        = number
  default     = 1
}

variable "deletion_protection" {
  description = "Whether database and server refuse to be deleted. Apply false before you destroy them."
  type        = bool
  default     = true
}
