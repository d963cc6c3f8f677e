# The passwords are made once and go to Secrets Manager at once: no plan and no state holds them.

locals {
  secrets = toset(["PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"])

  # MLflow takes the admin's password when there is no admin yet, and never again.
  password_versions = {
    for name in local.secrets :
    name => name == "MLFLOW_AUTH_ADMIN_PASSWORD" ? 1 : var.password_version
  }
}

ephemeral "aws_secretsmanager_random_password" "new" {
  for_each            = local.secrets
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = local.secrets
  name                    = "${local.name}/${each.key}"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each                 = local.secrets
  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.new[each.key].random_password
  secret_string_wo_version = local.password_versions[each.key]
}

# Read back, because each run makes another: after an apply that stopped half-way, the database must
# still get the one that is kept.
ephemeral "aws_secretsmanager_secret_version" "database" {
  secret_id  = aws_secretsmanager_secret_version.this["PGPASSWORD"].secret_id
  version_id = aws_secretsmanager_secret_version.this["PGPASSWORD"].version_id
}
