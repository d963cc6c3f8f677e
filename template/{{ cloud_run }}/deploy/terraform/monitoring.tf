# --- predictions: from the service's log to a bucket --------------------------------------------

resource "google_storage_bucket" "predictions" {
  name                        = "${var.project}-${local.name}-predictions"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 400 # days: last year's season is there to compare with
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_project_sink" "predictions" {
  name                   = "${local.name}-predictions"
  destination            = "storage.googleapis.com/${google_storage_bucket.predictions.name}"
  unique_writer_identity = true
  filter                 = "resource.type=\"cloud_run_revision\" resource.labels.service_name=\"${local.name}\" jsonPayload.schema=1 jsonPayload.request_id:*"
}

resource "google_storage_bucket_iam_member" "sink" {
  bucket = google_storage_bucket.predictions.name
  role   = "roles/storage.objectCreator"
  member = google_logging_project_sink.predictions.writer_identity
}

# --- the monitoring job and what starts it ------------------------------------------------------

resource "google_service_account" "monitoring" {
  account_id   = "${local.name}-mon"
  display_name = "${local.name}: compares predictions with the reference"
  depends_on   = [google_project_service.needed]
}

# Readers look at the bucket itself before they list it, which objectViewer does not allow.
resource "google_storage_bucket_iam_member" "monitoring" {
  for_each = toset(["roles/storage.objectViewer", "roles/storage.legacyBucketReader"])
  bucket   = google_storage_bucket.predictions.name
  role     = each.key
  member   = google_service_account.monitoring.member
}

# Of the service's secrets the job reads those of the registry only, besides its own.
locals {
  prediction_log = "gs://${google_storage_bucket.predictions.name}"
  monitoring_secrets = setunion(
    var.monitoring_secrets,
    [for name in var.secrets : name if startswith(name, "MLFLOW_")],
  )
}

resource "google_secret_manager_secret_iam_member" "monitoring" {
  for_each  = local.monitoring_secrets
  secret_id = google_secret_manager_secret.setting[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.monitoring.member
}

resource "google_cloud_run_v2_job" "monitoring" {
  name                = "${local.name}-monitoring"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.monitoring.email
      timeout         = "1800s"
      max_retries     = 0 # an alarm is an exit code too, and would only be raised twice

      containers {
        image = coalesce(var.monitoring_image, local.placeholder)

        resources {
          limits = { cpu = "1", memory = "2Gi" }
        }

        dynamic "env" {
          for_each = merge(local.settings, { PREDICTION_LOG = local.prediction_log }, var.monitoring_settings)
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = local.monitoring_secrets
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
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version]
  }

  depends_on = [
    google_project_service.needed,
    google_secret_manager_secret_iam_member.monitoring,
    google_secret_manager_secret_version.unset,
  ]
}

resource "google_service_account" "schedule" {
  account_id   = "${local.name}-cron"
  display_name = "${local.name}: starts the monitoring job"
  depends_on   = [google_project_service.needed]
}

resource "google_cloud_run_v2_job_iam_member" "schedule" {
  name     = google_cloud_run_v2_job.monitoring.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.schedule.member
}

resource "google_cloud_scheduler_job" "monitoring" {
  name      = "${local.name}-monitoring"
  region    = var.region
  schedule  = var.monitoring_schedule
  paused    = var.monitoring_image == ""
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/projects/${var.project}/locations/${var.region}/jobs/${google_cloud_run_v2_job.monitoring.name}:run"

    oauth_token {
      service_account_email = google_service_account.schedule.email
    }
  }

  depends_on = [google_project_service.needed]
}

# --- alerts and the budget ----------------------------------------------------------------------

resource "google_monitoring_notification_channel" "email" {
  count        = var.alert_email == "" ? 0 : 1
  display_name = local.name
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [google_project_service.needed]
}

locals {
  requests = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local.name}\" AND metric.type=\"run.googleapis.com/request_count\""
  failed   = "${local.requests} AND metric.labels.response_code_class=\"5xx\""
}

# A share, so that it says as much of few requests as of many: where all fail, a busy service is told
# of within two minutes, and one that is asked four times an hour within half of one.
resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${local.name}: requests fail"
  combiner              = "AND"
  notification_channels = google_monitoring_notification_channel.email[*].name

  conditions {
    display_name = "more than 5 % of the requests of 30 minutes are 5xx"

    condition_threshold {
      filter             = local.failed
      denominator_filter = local.requests
      comparison         = "COMPARISON_GT"
      threshold_value    = 0.05
      duration           = "0s"

      aggregations {
        alignment_period     = "1800s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }

      denominator_aggregations {
        alignment_period     = "1800s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  conditions {
    display_name = "and more than one is"

    condition_threshold {
      filter          = local.failed
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "0s"

      aggregations {
        alignment_period     = "1800s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "latency" {
  display_name          = "${local.name}: requests are slow"
  combiner              = "OR"
  notification_channels = google_monitoring_notification_channel.email[*].name

  conditions {
    display_name = "the 99th percentile is above 2 s for 10 minutes"

    condition_threshold {
      filter          = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local.name}\" AND metric.type=\"run.googleapis.com/request_latencies\""
      comparison      = "COMPARISON_GT"
      threshold_value = 2000
      duration        = "600s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_PERCENTILE_99"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  depends_on = [google_project_service.needed]
}

# An alarm, too little data and an error all end the job with a code that counts as failed.
resource "google_monitoring_alert_policy" "monitoring" {
  count                 = var.monitoring_image == "" ? 0 : 1
  display_name          = "${local.name}: monitoring has something to say"
  combiner              = "OR"
  notification_channels = google_monitoring_notification_channel.email[*].name

  conditions {
    display_name = "an execution of ${google_cloud_run_v2_job.monitoring.name} failed"

    condition_threshold {
      filter          = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${google_cloud_run_v2_job.monitoring.name}\" AND metric.type=\"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result=\"failed\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "3600s" # what is open still would not be told again next week
  }

  documentation {
    content = "The reasons are in the log of ${google_cloud_run_v2_job.monitoring.name}; docs/monitoring.md says what to do."
  }

  depends_on = [google_project_service.needed]
}

resource "google_billing_budget" "this" {
  count           = var.billing_account == "" ? 0 : 1
  billing_account = var.billing_account
  display_name    = local.name

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  depends_on = [google_project_service.needed]
}
