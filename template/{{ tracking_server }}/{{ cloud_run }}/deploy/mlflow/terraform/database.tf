# Runs, versions, aliases and users. Its address is public, and nobody can use it: connections come
# through Google's connector alone, which asks IAM who it is and encrypts.

resource "google_sql_database_instance" "this" {
  name                = local.name
  region              = var.region
  database_version    = "POSTGRES_17"
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE" # the other one has no small machines
    tier                        = var.database_tier
    availability_type           = var.database_standby ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = 10
    disk_autoresize             = true
    connector_enforcement       = "REQUIRED"
    deletion_protection_enabled = var.deletion_protection # for whoever does not use Terraform
    retain_backups_on_delete    = true

    ip_configuration {
      ipv4_enabled = true
      ssl_mode     = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_sql_database" "mlflow" {
  name            = local.settings["PGDATABASE"]
  instance        = google_sql_database_instance.this.name
  deletion_policy = "ABANDON" # it goes with the instance
}

resource "google_sql_user" "mlflow" {
  name                = local.settings["PGUSER"]
  instance            = google_sql_database_instance.this.name
  password_wo         = ephemeral.google_secret_manager_secret_version.database.secret_data
  password_wo_version = var.password_version
  deletion_policy     = "ABANDON" # a role that owns tables cannot be dropped
}
