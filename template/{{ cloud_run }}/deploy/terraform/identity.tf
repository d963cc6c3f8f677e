# GitHub's jobs exchange their own short-lived token for one of these accounts: no key exists.

resource "google_iam_workload_identity_pool" "github" {
  workload_identity_pool_id = local.name
  depends_on                = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  workload_identity_pool_id          = google_iam_workload_identity_pool.github.workload_identity_pool_id
  workload_identity_pool_provider_id = "github"

  # GitHub's own subject is not used: its form differs between repositories created before and after
  # July 2026, and it may be longer than the 127 bytes that Google takes.
  attribute_mapping = {
    "google.subject"        = "assertion.repository_id + ':' + assertion.environment"
    "attribute.environment" = "assertion.environment"
  }

  # The repository by number, and only jobs in one of these GitHub environments.
  attribute_condition = "assertion.repository_id == '${var.github_repository_id}' && assertion.environment in ['${var.environment}', 'plan']"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

# --- the service itself -----------------------------------------------------------------------

resource "google_service_account" "runtime" {
  account_id   = "${local.name}-run"
  display_name = "${local.name}: answers requests"
  depends_on   = [google_project_service.needed]
}

resource "google_secret_manager_secret_iam_member" "runtime" {
  for_each  = setunion(var.secrets, var.retired_secrets)
  secret_id = google_secret_manager_secret.setting[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.runtime.member
}

# --- who releases -----------------------------------------------------------------------------

resource "google_service_account" "deploy" {
  account_id   = "${local.name}-cd"
  display_name = "${local.name}: releases, from GitHub's environment ${var.environment}"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account_iam_member" "deploy_from_github" {
  service_account_id = google_service_account.deploy.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github.name}/attribute.environment/${var.environment}"
}

resource "google_cloud_run_v2_service_iam_member" "deploy" {
  for_each = toset(["roles/run.developer", "roles/run.invoker"])
  name     = google_cloud_run_v2_service.this.name
  location = var.region
  role     = each.key
  member   = google_service_account.deploy.member
}

resource "google_service_account_iam_member" "deploy_as" {
  service_account_id = google_service_account.runtime.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deploy.member
}

# The smoke test calls the service as this account. For an identity token gcloud asks for an access
# token of the account first, which roles/iam.serviceAccountOpenIdTokenCreator does not allow.
resource "google_service_account_iam_member" "deploy_identity_token" {
  service_account_id = google_service_account.deploy.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_service_account.deploy.member
}

# Only staging builds, so only its account may push; production's cannot change an image.
resource "google_artifact_registry_repository_iam_member" "deploy" {
  project    = local.is_staging ? var.project : coalesce(var.registry_project, var.project)
  location   = var.region
  repository = local.is_staging ? google_artifact_registry_repository.images[0].name : var.name
  role       = local.is_staging ? "roles/artifactregistry.writer" : "roles/artifactregistry.reader"
  member     = google_service_account.deploy.member
}

# Cloud Run itself pulls images; in staging's own project it may already.
resource "google_artifact_registry_repository_iam_member" "cloud_run" {
  count      = var.registry_project == "" ? 0 : 1
  project    = var.registry_project
  location   = var.region
  repository = var.name
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:service-${data.google_project.this.number}@serverless-robot-prod.iam.gserviceaccount.com"

  # Google makes that account for the project's first service; before that nobody is so called.
  depends_on = [google_cloud_run_v2_service.this]
}

resource "google_storage_bucket_iam_member" "deploy" {
  bucket = google_storage_bucket.releases.name
  role   = "roles/storage.objectUser"
  member = google_service_account.deploy.member
}

# A release is found among the revisions, and who lists them is asked for rights on the project.
resource "google_project_iam_member" "deploy_lists_revisions" {
  project = var.project
  role    = "roles/run.viewer"
  member  = google_service_account.deploy.member
}

# The canary's errors are counted in the request log, which no narrower role can read.
resource "google_project_iam_member" "deploy_reads_logs" {
  project = var.project
  role    = "roles/logging.viewer"
  member  = google_service_account.deploy.member
}

# --- who plans, for pull requests: reads how things are set up, and changes nothing --------------
# Whoever may push a branch can act as this account, so it reads no log and nothing that a bucket
# holds but Terraform's state. What Google calls a viewer may read all of that.

resource "google_service_account" "plan" {
  account_id   = "${local.name}-plan"
  display_name = "${local.name}: plans, from GitHub's environment plan"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account_iam_member" "plan_from_github" {
  service_account_id = google_service_account.plan.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github.name}/attribute.environment/plan"
}

# What Terraform asks when it looks whether a resource has changed. One that you add may want more.
resource "google_project_iam_custom_role" "plan" {
  role_id = replace("${local.name}-plan", "-", "_")
  title   = "${local.name}: plans"
  permissions = [
    "artifactregistry.repositories.get",
    "artifactregistry.repositories.getIamPolicy",
    "cloudscheduler.jobs.get",
    "iam.roles.get",
    "iam.serviceAccounts.get",
    "iam.serviceAccounts.getIamPolicy",
    "iam.workloadIdentityPoolProviders.get",
    "iam.workloadIdentityPools.get",
    "logging.sinks.get",
    "monitoring.alertPolicies.get",
    "monitoring.notificationChannels.get",
    "resourcemanager.projects.get",
    "resourcemanager.projects.getIamPolicy",
    "run.jobs.get",
    "run.jobs.getIamPolicy",
    "run.services.get",
    "run.services.getIamPolicy",
    "secretmanager.secrets.get",
    "secretmanager.secrets.getIamPolicy",
    "secretmanager.versions.get",
    "storage.buckets.get",
    "storage.buckets.getIamPolicy",
  ]
  depends_on = [google_project_service.needed]
}

# The other lets it name the project that its requests count against, as versions.tf asks, and see
# which APIs are on.
resource "google_project_iam_member" "plan" {
  for_each = {
    reads = google_project_iam_custom_role.plan.name
    asks  = "roles/serviceusage.serviceUsageConsumer"
  }
  project = var.project
  role    = each.value
  member  = google_service_account.plan.member
}

resource "google_storage_bucket_iam_member" "plan" {
  bucket = "${var.project}-terraform-state" # which `make bootstrap` made
  role   = "roles/storage.objectViewer"
  member = google_service_account.plan.member
}

# A plan reads what Terraform wrote: the placeholder of each secret, and no value that came after.
resource "google_secret_manager_secret_iam_member" "plan" {
  for_each  = local.secrets
  secret_id = google_secret_manager_secret.setting[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.plan.member

  condition {
    title      = "only the placeholder"
    expression = "resource.name == '${google_secret_manager_secret_version.unset[each.key].name}'"
  }
}
