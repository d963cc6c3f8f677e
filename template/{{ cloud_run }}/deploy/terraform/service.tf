locals {
  name       = "${var.name}-${var.environment}"
  is_staging = var.environment == "staging"

  # What the first apply starts, before any image exists.
  placeholder = "us-docker.pkg.dev/cloudrun/container/hello"

  settings = merge({
    MODEL_STAGE    = var.environment
    PREDICTION_LOG = "-"
  }, var.settings)

  secrets = setunion(var.secrets, var.retired_secrets, var.monitoring_secrets)

  services = toset(concat(var.billing_account == "" ? [] : ["billingbudgets.googleapis.com"], [
    "artifactregistry.googleapis.com",
    "cloudscheduler.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
    "sts.googleapis.com",
  ]))
}

data "google_project" "this" {}

resource "google_project_service" "needed" {
  for_each           = local.services
  service            = each.key
  disable_on_destroy = false # others in the project may use it
}

resource "google_cloud_run_v2_service" "this" {
  name                = local.name
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  deletion_protection = false # the registry, the buckets and git hold all that is worth keeping

  # Of the service and not of its template: so a change takes effect at once, whichever revision serves.
  scaling {
    min_instance_count = var.min_instances
    max_instance_count = var.max_instances
  }

  template {
    service_account                  = google_service_account.runtime.email
    timeout                          = "30s"
    max_instance_request_concurrency = 40

    scaling {
      min_instance_count = 0 # of each revision, besides the service's
    }

    containers {
      image = local.placeholder

      ports {
        container_port = 8080
      }

      resources {
        # Less than one CPU would force a concurrency of 1. /tmp counts as memory.
        limits            = { cpu = "1", memory = "1Gi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.value
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.setting[env.value].secret_id
              version = "latest"
            }
          }
        }
      }

      # The placeholder answers 200 at every path, so the probes hold for it as well.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/readyz"
        }
      }

      liveness_probe {
        period_seconds  = 10
        timeout_seconds = 2
        http_get {
          path = "/healthz"
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  lifecycle {
    # A release sets these; an apply must not put an older image or split back.
    ignore_changes = [
      client,
      client_version,
      labels,
      traffic,
      template[0].labels,
      template[0].revision,
      template[0].containers[0].image,
    ]
  }

  depends_on = [
    google_project_service.needed,
    google_secret_manager_secret_iam_member.runtime,
    google_secret_manager_secret_version.unset,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "public" {
  count    = var.public ? 1 : 0
  name     = google_cloud_run_v2_service.this.name
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_artifact_registry_repository" "images" {
  count         = local.is_staging ? 1 : 0
  location      = var.region
  repository_id = var.name
  format        = "DOCKER"

  docker_config {
    immutable_tags = true # a tag is how a built image is found again, so it may never move
  }

  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 30
    }
  }

  cleanup_policies {
    id     = "keep-monitoring" # which is built once, and runs for years
    action = "KEEP"
    condition {
      tag_state    = "TAGGED"
      tag_prefixes = ["monitoring-"]
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "34560000s" # 400 days: production may run an old image for long
    }
  }

  depends_on = [google_project_service.needed]
}

# Secrets get their values by `gcloud secrets versions add`, so that Terraform's state holds none.
resource "google_secret_manager_secret" "setting" {
  for_each  = local.secrets
  secret_id = "${local.name}-${each.key}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

# The service cannot start with a secret that has no version at all. With this one only what Google
# starts first does: settings.py refuses it.
resource "google_secret_manager_secret_version" "unset" {
  for_each    = local.secrets
  secret      = google_secret_manager_secret.setting[each.key].id
  secret_data = "unset"

  lifecycle {
    ignore_changes = [secret_data, enabled]
  }
}

# Holds the lock and the journal of releases.
resource "google_storage_bucket" "releases" {
  name                        = "${var.project}-${local.name}-releases"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      num_newer_versions = 50
    }
  }

  depends_on = [google_project_service.needed]
}
