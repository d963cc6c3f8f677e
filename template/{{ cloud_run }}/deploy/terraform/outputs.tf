# These are the variables of the GitHub environment of the same name; `make github` sets them.

output "variables" {
  value = {
    GCP_PROJECT                    = var.project
    GCP_REGION                     = var.region
    GCP_SERVICE_ACCOUNT            = google_service_account.deploy.email
    GCP_WORKLOAD_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github.name
    CLOUD_RUN_SERVICE              = google_cloud_run_v2_service.this.name
    RELEASE_BUCKET                 = google_storage_bucket.releases.name
    IMAGE_REPOSITORY               = "${var.region}-docker.pkg.dev/${coalesce(var.registry_project, var.project)}/${var.name}/app"
  }
}

# With two projects pull requests get staging's plan: production's account may not look into staging's
# registry, which its own plan does.
output "plan_variables" {
  value = { for name, value in {
    GCP_PROJECT                    = var.project
    GCP_REGION                     = var.region
    GCP_SERVICE_ACCOUNT            = google_service_account.plan.email
    PLANNED_ENVIRONMENT            = var.environment
    GCP_WORKLOAD_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github.name
  } : name => value if var.registry_project == "" }
}

output "prediction_log" {
  value = local.prediction_log
}

output "url" {
  value = google_cloud_run_v2_service.this.uri
}
