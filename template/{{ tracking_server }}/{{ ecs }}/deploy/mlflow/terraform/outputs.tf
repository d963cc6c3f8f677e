output "url" {
  value = "https://${var.domain}"
}

output "load_balancer" {
  value = aws_lb.this.dns_name
}

output "image_repository" {
  value = aws_ecr_repository.images.repository_url
}

output "admin_password" {
  value = "aws secretsmanager get-secret-value --region ${var.region} --secret-id ${aws_secretsmanager_secret.this["MLFLOW_AUTH_ADMIN_PASSWORD"].name} --query SecretString --output text"
}

# Where `make mlflow-upgrade` runs, and what.
output "upgrade" {
  value = {
    cluster         = aws_ecs_cluster.this.name
    task_definition = local.name
    subnets         = aws_subnet.public[*].id
    security_group  = aws_security_group.server.id
    command         = ["mlflow", "db", "upgrade", local.store]
  }
}
