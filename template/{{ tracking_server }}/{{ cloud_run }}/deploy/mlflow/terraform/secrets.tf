# The passwords are made once and go to Secret Manager at once: no plan and no state holds them.

locals {
  secrets = toset(["PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"])

  # MLflow takes the admin's password when there is no admin yet, and never again.
  password_versions = {
    for name in local.secrets :
    name => name == "MLFLOW_AUTH_ADMIN_PASSWORD" ? 1 : var.password_version
  }
}

ephemeral "random_password" "new" {
  for_each = local.secrets
  length   = 40
  special  = false
}

resource "google_secret_manager_secret" "this" {
  for_each  = local.secrets
  secret_id = "${local.name}-${each.key}"

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "this" {
  for_each               = local.secrets
  secret                 = google_secret_manager_secret.this[each.key].id
  secret_data_wo         = ephemeral.random_password.new[each.key].result
  secret_data_wo_version = local.password_versions[each.key]

  lifecycle {
    create_before_destroy = true # what serves still has the old one
  }
}

# Read back, because each run makes another: after an apply that stopped half-way, the database must
# still get the one that is kept.
ephemeral "google_secret_manager_secret_version" "database" {
  secret  = google_secret_manager_secret.this["PGPASSWORD"].secret_id
  version = google_secret_manager_secret_version.this["PGPASSWORD"].version
}
