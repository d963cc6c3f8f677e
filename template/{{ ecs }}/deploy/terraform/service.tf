locals {
  name       = "${var.name}-${var.environment}"
  is_staging = var.environment == "staging"
  https      = var.certificate_arn != ""
  port       = 8080
  account    = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  registry   = coalesce(var.registry_account, local.account)
  secrets    = setunion(var.secrets, var.retired_secrets, var.monitoring_secrets)
  repository = "arn:${local.partition}:ecr:${var.region}:${local.registry}:repository/${var.name}"

  settings = merge({
    MODEL_STAGE    = var.environment
    PREDICTION_LOG = "-"
    PORT           = tostring(local.port)
  }, var.settings)

  # What the first apply starts, before any image exists: it answers 200 at every path.
  placeholder_image = "public.ecr.aws/docker/library/python:3.13-slim"
  placeholder_code  = <<-CODE
    from http.server import BaseHTTPRequestHandler, HTTPServer
    class Always(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "no release yet"}')
    HTTPServer(("", ${local.port}), Always).serve_forever()
  CODE

  container = {
    name                   = "app"
    image                  = local.placeholder_image
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = 30
    portMappings           = [{ containerPort = local.port, protocol = "tcp" }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    healthCheck = {
      command     = ["CMD", "python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:${local.port}/healthz', timeout=2)"]
      interval    = 10
      timeout     = 3
      retries     = 3
      startPeriod = 30
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "service"
      }
    }
  }

  services = {
    live      = { tasks = var.min_tasks, back = true }
    candidate = { tasks = 0, back = false }
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

resource "aws_cloudwatch_log_group" "service" {
  name              = "/ecs/${local.name}"
  retention_in_days = 30
}

resource "aws_ecs_cluster" "this" {
  name = local.name

  setting {
    name  = "containerInsights"
    value = "disabled" # its metrics are billed by the task; the load balancer's are free
  }
}

resource "aws_ecs_task_definition" "placeholder" {
  family                   = "${local.name}-placeholder"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions = jsonencode([
    merge(local.container, { command = ["python", "-c", local.placeholder_code] })
  ])

  # The first release goes back to it if it fails.
  skip_destroy = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
}

# A release registers this with its image, under the family of the service's own name: so what is
# changed here takes effect with the next release, which tests it first.
resource "aws_ecs_task_definition" "template" {
  family                   = "${local.name}-template"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions = jsonencode([
    merge(local.container, {
      environment = [for key, value in local.settings : { name = key, value = value }]
      secrets = [
        for key in var.secrets :
        { name = key, valueFrom = aws_secretsmanager_secret.setting[key].arn }
      ]
      linuxParameters = merge(local.container.linuxParameters, {
        tmpfs = [{ containerPath = "/tmp", size = 256, mountOptions = ["mode=1777"] }]
      })
    })
  ])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
}

# `live` serves. `candidate` has tasks during a release only, behind a header first, then with a
# share of the traffic.
resource "aws_ecs_service" "this" {
  for_each                           = local.services
  name                               = each.key
  cluster                            = aws_ecs_cluster.this.id
  task_definition                    = aws_ecs_task_definition.placeholder.arn
  desired_count                      = each.value.tasks
  launch_type                        = "FARGATE"
  health_check_grace_period_seconds  = 60
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"

  deployment_circuit_breaker {
    enable   = true
    rollback = each.value.back
  }

  dynamic "alarms" {
    for_each = each.value.back ? [1] : []
    content {
      alarm_names = [for alarm in [aws_cloudwatch_metric_alarm.errors, aws_cloudwatch_metric_alarm.unanswered] : alarm.alarm_name]
      enable      = true
      rollback    = true
    }
  }

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = true
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this[each.key].arn
    container_name   = "app"
    container_port   = local.port
  }

  lifecycle {
    # A release and the autoscaler set these; an apply must not put an older image back.
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [aws_lb_listener.public, aws_lb_listener_rule.candidate, aws_iam_role_policy.execution]
}

resource "aws_appautoscaling_target" "live" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this["live"].name}"
  min_capacity       = var.min_tasks
  max_capacity       = var.max_tasks
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "${local.name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.live.service_namespace
  scalable_dimension = aws_appautoscaling_target.live.scalable_dimension
  resource_id        = aws_appautoscaling_target.live.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 120
    scale_out_cooldown = 30

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_lb" "this" {
  name                       = local.name
  load_balancer_type         = "application"
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "this" {
  for_each             = { live = "live", candidate = "next" } # names are short by rule
  name                 = "${local.name}-${each.value}"
  port                 = local.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = aws_vpc.this.id
  deregistration_delay = 20

  health_check {
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "public" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.https ? 443 : 80
  protocol          = local.https ? "HTTPS" : "HTTP"
  certificate_arn   = local.https ? var.certificate_arn : null
  ssl_policy        = local.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null

  default_action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.this["live"].arn
        weight = 100
      }
      target_group {
        arn    = aws_lb_target_group.this["candidate"].arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [default_action] # a release sets the weights
  }
}

resource "aws_lb_listener" "redirect" {
  count             = local.https ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }

  depends_on = [aws_lb_listener.public] # which leaves port 80 to it, or takes it back
}

# The candidate at 0 %: whoever sends this header asks it.
resource "aws_lb_listener_rule" "candidate" {
  listener_arn = aws_lb_listener.public.arn
  priority     = 1

  condition {
    http_header {
      http_header_name = "X-Release"
      values           = ["candidate"]
    }
  }

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["candidate"].arn
  }
}

resource "aws_ecr_repository" "images" {
  count                = local.is_staging ? 1 : 0
  name                 = var.name
  image_tag_mutability = "IMMUTABLE" # a tag is how a built image is found again, so it may never move
  force_delete         = true

  image_scanning_configuration {
    scan_on_push = true
  }
}

# Production may run an old image for long, and pulls it again for each new task. Most layers are shared.
# The weekly task's image is built once and pulled for years: what matches a rule is safe from later ones.
resource "aws_ecr_lifecycle_policy" "images" {
  count      = local.is_staging ? 1 : 0
  repository = aws_ecr_repository.images[0].name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "keep the newest 20 of monitoring"
        selection = {
          tagStatus      = "tagged"
          tagPatternList = ["*monitoring*"] # tags began with the commit once
          countType      = "imageCountMoreThan"
          countNumber    = 20
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "keep the newest 200"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 200 }
        action       = { type = "expire" }
      },
    ]
  })
}

data "aws_iam_policy_document" "reader" {
  count = local.is_staging && var.reader_account != "" ? 1 : 0

  statement {
    sid     = "PullFromProduction"
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${var.reader_account}:root"]
    }
  }
}

resource "aws_ecr_repository_policy" "reader" {
  count      = local.is_staging && var.reader_account != "" ? 1 : 0
  repository = aws_ecr_repository.images[0].name
  policy     = data.aws_iam_policy_document.reader[0].json
}

# Secrets get their values by `aws secretsmanager put-secret-value`, so that Terraform's state holds
# none. Until then a release that needs one does not start, and what served before serves.
resource "aws_secretsmanager_secret" "setting" {
  for_each                = local.secrets
  name                    = "${local.name}/${each.key}"
  recovery_window_in_days = local.is_staging ? 0 : 7
}
