locals {
  name    = "${var.name}-mlflow"
  port    = 5000
  running = var.image == "" ? 0 : 1 # the first apply makes the registry that the image goes to
  account = data.aws_caller_identity.this.account_id

  # The command and the settings are those of compose.yaml, which `make mlflow` runs as well. Only
  # where it keeps things, and what it is called, differ.
  described = yamldecode(file("${path.module}/../compose.yaml"))["services"]["server"]
  changed   = { "--artifacts-destination" = "s3://${aws_s3_bucket.artifacts.bucket}" }
  command = [
    for i, word in local.described["command"] :
    i == 0 ? word : lookup(local.changed, local.described["command"][i - 1], word)
  ]
  store = local.command[index(local.command, "--backend-store-uri") + 1]

  settings = merge(
    {
      for name, value in local.described["environment"] :
      name => value if can(regex("^(MLFLOW_|PGUSER$|PGDATABASE$)", name)) && !strcontains(value, "$")
    },
    {
      AWS_DEFAULT_REGION                 = var.region
      MLFLOW_SERVER_ALLOWED_HOSTS        = var.domain
      MLFLOW_SERVER_CORS_ALLOWED_ORIGINS = "https://${var.domain}"
      PGSSLMODE                          = "require"
      UVICORN_TIMEOUT_KEEP_ALIVE         = "620" # longer than whoever stands before it keeps a connection
    },
  )
}

data "aws_caller_identity" "this" {}

resource "aws_cloudwatch_log_group" "server" {
  name              = "/ecs/${local.name}"
  retention_in_days = 90
}

resource "aws_ecs_cluster" "this" {
  name = local.name

  setting {
    name  = "containerInsights"
    value = "disabled" # its metrics are billed by the task; the load balancer's are free
  }
}

resource "aws_ecs_task_definition" "server" {
  count                    = local.running
  family                   = local.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.server.arn
  container_definitions = jsonencode([{
    name            = "server"
    image           = var.image
    essential       = true
    command         = local.command
    stopTimeout     = 60
    portMappings    = [{ containerPort = local.port, protocol = "tcp" }]
    linuxParameters = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    environment = [
      for name, value in merge(local.settings, { PGHOST = aws_db_instance.this.address }) :
      { name = name, value = value }
    ]
    secrets = [
      for name in local.secrets :
      { name = name, valueFrom = "${aws_secretsmanager_secret.this[name].arn}:::${aws_secretsmanager_secret_version.this[name].version_id}" }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.server.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "server"
      }
    }
  }])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
}

resource "aws_ecs_service" "server" {
  count                              = local.running
  name                               = "server"
  cluster                            = aws_ecs_cluster.this.id
  task_definition                    = aws_ecs_task_definition.server[0].arn
  desired_count                      = var.tasks
  launch_type                        = "FARGATE"
  health_check_grace_period_seconds  = 240 # the first start makes the tables
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  wait_for_steady_state              = true # so that an apply fails when the server does not start

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.server.id]
    assign_public_ip = true
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.server.arn
    container_name   = "server"
    container_port   = local.port
  }

  depends_on = [aws_iam_role_policy.execution, aws_iam_role_policy.server, aws_lb_listener.https]
}

resource "aws_lb" "this" {
  name                       = local.name
  load_balancer_type         = "application"
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  idle_timeout               = 600 # the server takes a file up as a whole before it answers
  enable_deletion_protection = var.deletion_protection
}

resource "aws_lb_target_group" "server" {
  name                 = local.name
  port                 = local.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = aws_vpc.this.id
  deregistration_delay = 60

  health_check {
    path                = "/health"
    matcher             = "200"
    interval            = 15
    timeout             = 10
    healthy_threshold   = 2
    unhealthy_threshold = 4
  }
}

# Nothing listens on port 80: a client that is pointed there would send its password before it is
# sent on.
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.certificate_arn
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.server.arn
  }
}
