output "url" {
  value = "https://${local.host}"
}

output "image_repository" {
  value = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}/server"
}

output "upgrade" {
  value = "${local.name}-upgrade"
}

output "admin_password" {
  value = "gcloud secrets versions access latest --project=${var.project} --secret=${google_secret_manager_secret.this["MLFLOW_AUTH_ADMIN_PASSWORD"].secret_id}"
}
