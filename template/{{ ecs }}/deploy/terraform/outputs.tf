# These are the variables of the GitHub environment of the same name; `make github` sets them.

output "variables" {
  value = {
    AWS_REGION       = var.region
    AWS_ROLE_ARN     = aws_iam_role.github["deploy"].arn
    ECS_CLUSTER      = aws_ecs_cluster.this.name
    ECS_LISTENER     = aws_lb_listener.public.arn
    SERVICE_URL      = local.url
    RELEASE_BUCKET   = aws_s3_bucket.this["releases"].bucket
    IMAGE_REPOSITORY = "${local.registry}.dkr.ecr.${var.region}.amazonaws.com/${var.name}"
  }
}

output "plan_variables" {
  value = {
    AWS_REGION          = var.region
    AWS_ROLE_ARN        = aws_iam_role.github["plan"].arn
    PLANNED_ENVIRONMENT = var.environment
  }
}

output "prediction_log" {
  value = local.prediction_log
}

output "url" {
  value = local.url
}

locals {
  url = local.https ? "https://${var.domain}" : "http://${aws_lb.this.dns_name}"
}
