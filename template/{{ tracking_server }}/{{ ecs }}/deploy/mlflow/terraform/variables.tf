variable "region" {
  description = "Where everything runs."
  type        = string
  default     = "eu-west-1"
}

variable "name" {
  description = "What everything is called, before `mlflow`; the service's Terraform has it too."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,12}[a-z0-9]$", var.name))
    error_message = "Use 3 to 14 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "domain" {
  description = "The name that the server is reached by; point it at the load balancer."
  type        = string
}

variable "certificate_arn" {
  description = "The certificate of ACM for that name. There is no plain HTTP: a password travels with every request."
  type        = string
}

variable "callers" {
  description = "The addresses that may ask; the login is asked of them as well. GitHub's runners have no fixed ones, so releases from there need 0.0.0.0/0. It has no default, because it is yours to decide."
  type        = set(string)
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

variable "vpc_cidr" {
  description = "The network's addresses."
  type        = string
  default     = "10.41.0.0/16"
}

variable "cpu" {
  description = "CPU units of the task; 1024 are one virtual CPU."
  type        = number
  default     = 512
}

variable "memory" {
  description = "MiB of the task; the server alone takes 1024."
  type        = number
  default     = 2048
}

variable "tasks" {
  description = "Tasks that run, each about 25 USD a month and up to 30 connections to the database."
  type        = number
  default     = 1
}

variable "database_class" {
  description = "The size of the database; db.t4g.micro is about 13 USD a month, and each step up doubles it."
  type        = string
  default     = "db.t4g.micro"
}

variable "database_gigabytes" {
  description = "The database's disk at first; it grows by itself to five times that."
  type        = number
  default     = 20
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
  description = "Whether database and load balancer refuse to be deleted. Apply false before you destroy them."
  type        = bool
  default     = true
}
