# The server's own account: its bucket, its database, its secrets.

resource "google_service_account" "server" {
  account_id   = local.name
  display_name = "${local.name}: the tracking server"
}

resource "google_storage_bucket_iam_member" "server" {
  bucket = google_storage_bucket.artifacts.name
  role   = "roles/storage.objectUser"
  member = google_service_account.server.member
}

# The role is given in the project, and the condition leaves one database of it.
resource "google_project_iam_member" "server" {
  project = var.project
  role    = "roles/cloudsql.client"
  member  = google_service_account.server.member

  condition {
    title      = "tracking-server-database"
    expression = "resource.type == 'sqladmin.googleapis.com/Instance' && resource.name == 'projects/${var.project}/instances/${google_sql_database_instance.this.name}'"
  }
}

resource "google_secret_manager_secret_iam_member" "server" {
  for_each  = local.secrets
  secret_id = google_secret_manager_secret.this[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.server.member
}
