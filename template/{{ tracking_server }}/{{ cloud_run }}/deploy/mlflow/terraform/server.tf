locals {
  name    = "${var.name}-mlflow"
  port    = 8080
  running = var.image == "" ? 0 : 1 # the first apply makes the registry that the image goes to

  # The command and the settings are those of compose.yaml, which `make mlflow` runs as well. Only
  # where it keeps things, and what it is called, differ.
  described = yamldecode(file("${path.module}/../compose.yaml"))["services"]["server"]
  changed   = { "--artifacts-destination" = "gs://${google_storage_bucket.artifacts.name}" }
  command = [
    for i, word in local.described["command"] :
    i == 0 ? word : lookup(local.changed, local.described["command"][i - 1], word)
  ]
  store = local.command[index(local.command, "--backend-store-uri") + 1]

  host  = "${local.name}-${data.google_project.this.number}.${var.region}.run.app"
  hosts = concat([local.host], sort(var.hosts))
  settings = merge(
    {
      for name, value in local.described["environment"] :
      name => value if can(regex("^(MLFLOW_|PGUSER$|PGDATABASE$)", name)) && !strcontains(value, "$")
    },
    {
      MLFLOW_SERVER_ALLOWED_HOSTS        = join(",", local.hosts)
      MLFLOW_SERVER_CORS_ALLOWED_ORIGINS = join(",", [for host in local.hosts : "https://${host}"])
      PGHOST                             = "/cloudsql/${google_sql_database_instance.this.connection_name}"
      UVICORN_TIMEOUT_KEEP_ALIVE         = "620" # longer than whoever stands before it keeps a connection
    },
  )

  services = toset([
    "artifactregistry.googleapis.com",
    "iam.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
  ])
}

data "google_project" "this" {}

resource "google_project_service" "needed" {
  for_each           = local.services
  service            = each.key
  disable_on_destroy = false # others in the project may use it
}

# Who asks is told apart by MLflow's login and not by Cloud Run's, because both read the same header.
resource "google_cloud_run_v2_service" "server" {
  count                = local.running
  name                 = local.name
  location             = var.region
  ingress              = var.ingress == "all" ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker_iam_disabled = true
  deletion_protection  = var.deletion_protection

  template {
    service_account                  = google_service_account.server.email
    timeout                          = "3600s" # as long as a large file may take
    max_instance_request_concurrency = 40

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    volumes {
      name = "cloudsql"
      cloud_sql_instance {
        instances = [google_sql_database_instance.this.connection_name]
      }
    }

    # Requests and answers above 32 MiB pass by HTTP/2 only, which MLflow does not speak.
    containers {
      name       = "proxy"
      image      = var.image
      command    = ["caddy", "run", "--config", "/etc/mlflow/Caddyfile"]
      depends_on = ["server"]

      ports {
        name           = "h2c"
        container_port = local.port
      }

      resources {
        limits            = { cpu = "500m", memory = "256Mi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }
    }

    containers {
      name    = "server"
      image   = var.image
      command = local.command

      resources {
        limits            = { cpu = "1", memory = var.memory } # /tmp counts as memory
        cpu_idle          = true
        startup_cpu_boost = true
      }

      volume_mounts {
        name       = "cloudsql"
        mount_path = "/cloudsql"
      }

      dynamic "env" {
        for_each = local.settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secrets
        content {
          name = env.value
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.this[env.value].secret_id
              version = google_secret_manager_secret_version.this[env.value].version
            }
          }
        }
      }

      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 5
        failure_threshold = 48 # the first start makes the tables
        http_get {
          path = "/health"
          port = 5000
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 4
        http_get {
          path = "/health"
          port = 5000
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  lifecycle {
    ignore_changes = [client, client_version]
  }

  depends_on = [
    google_project_iam_member.server,
    google_project_service.needed,
    google_secret_manager_secret_iam_member.server,
    google_sql_database.mlflow,
    google_sql_user.mlflow,
    google_storage_bucket_iam_member.server,
  ]
}

# Brings the tables up to the image's version, when `make mlflow-upgrade` starts it.
resource "google_cloud_run_v2_job" "upgrade" {
  count               = local.running
  name                = "${local.name}-upgrade"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.server.email
      timeout         = "3600s"
      max_retries     = 0 # what stopped half-way is for a person to look at

      volumes {
        name = "cloudsql"
        cloud_sql_instance {
          instances = [google_sql_database_instance.this.connection_name]
        }
      }

      containers {
        image   = var.image
        command = ["mlflow", "db", "upgrade", local.store]

        resources {
          limits = { cpu = "1", memory = var.memory }
        }

        volume_mounts {
          name       = "cloudsql"
          mount_path = "/cloudsql"
        }

        dynamic "env" {
          for_each = local.settings
          content {
            name  = env.key
            value = env.value
          }
        }

        env {
          name = "PGPASSWORD"
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.this["PGPASSWORD"].secret_id
              version = google_secret_manager_secret_version.this["PGPASSWORD"].version
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
    google_project_iam_member.server,
    google_secret_manager_secret_iam_member.server,
    google_sql_user.mlflow,
  ]
}
