# --- predictions: from the service's log to a bucket --------------------------------------------

resource "aws_cloudwatch_log_subscription_filter" "predictions" {
  name            = "${local.name}-predictions"
  log_group_name  = aws_cloudwatch_log_group.service.name
  filter_pattern  = "{ $.schema = 1 && $.request_id = \"*\" }"
  destination_arn = aws_kinesis_firehose_delivery_stream.predictions.arn
  role_arn        = aws_iam_role.pipe["logs"].arn
}

resource "aws_kinesis_firehose_delivery_stream" "predictions" {
  name        = "${local.name}-predictions"
  destination = "extended_s3"

  server_side_encryption {
    enabled  = true
    key_type = "AWS_OWNED_CMK"
  }

  extended_s3_configuration {
    role_arn            = aws_iam_role.pipe["firehose"].arn
    bucket_arn          = aws_s3_bucket.this["predictions"].arn
    prefix              = "predictions/!{timestamp:yyyy-MM-dd}/"
    file_extension      = ".jsonl" # monitoring passes over what it does not know by its name
    error_output_prefix = "errors/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/"
    buffering_interval  = 300
    buffering_size      = 64

    # CloudWatch sends its own compressed envelopes; what is stored is the lines within.
    processing_configuration {
      enabled = true

      processors {
        type = "Decompression"
        parameters {
          parameter_name  = "CompressionFormat"
          parameter_value = "GZIP"
        }
      }

      processors {
        type = "CloudWatchLogProcessing"
        parameters {
          parameter_name  = "DataMessageExtraction"
          parameter_value = "true"
        }
      }
    }
  }

  depends_on = [aws_iam_role_policy.firehose]
}

locals {
  pipe = { logs = "logs.amazonaws.com", firehose = "firehose.amazonaws.com", schedule = "scheduler.amazonaws.com" }
}

data "aws_iam_policy_document" "pipe" {
  for_each = local.pipe

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "pipe" {
  for_each           = local.pipe
  name               = "${local.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.pipe[each.key].json
}

data "aws_iam_policy_document" "logs" {
  statement {
    actions   = ["firehose:PutRecord", "firehose:PutRecordBatch"]
    resources = [aws_kinesis_firehose_delivery_stream.predictions.arn]
  }
}

resource "aws_iam_role_policy" "logs" {
  name   = "predictions"
  role   = aws_iam_role.pipe["logs"].id
  policy = data.aws_iam_policy_document.logs.json
}

data "aws_iam_policy_document" "firehose" {
  statement {
    actions   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.this["predictions"].arn]
  }

  statement {
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.this["predictions"].arn}/*"]
  }
}

resource "aws_iam_role_policy" "firehose" {
  name   = "predictions"
  role   = aws_iam_role.pipe["firehose"].id
  policy = data.aws_iam_policy_document.firehose.json
}

# --- the monitoring task and what starts it -----------------------------------------------------

resource "aws_cloudwatch_log_group" "monitoring" {
  name              = "/ecs/${local.name}-monitoring"
  retention_in_days = 90
}

resource "aws_iam_role" "monitoring" {
  name               = "${local.name}-monitoring"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

data "aws_iam_policy_document" "monitoring" {
  statement {
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["predictions"].arn]
  }

  statement {
    actions = ["s3:GetObject"]
    resources = [
      "${aws_s3_bucket.this["predictions"].arn}/predictions", # readers ask for a file of the folder's name first
      "${aws_s3_bucket.this["predictions"].arn}/predictions/*",
      "${aws_s3_bucket.this["predictions"].arn}/labels/*",
    ]
  }
}

resource "aws_iam_role_policy" "monitoring" {
  name   = "predictions"
  role   = aws_iam_role.monitoring.id
  policy = data.aws_iam_policy_document.monitoring.json
}

locals {
  prediction_log = "s3://${aws_s3_bucket.this["predictions"].bucket}/predictions"
}

resource "aws_ecs_task_definition" "monitoring" {
  family                   = "${local.name}-monitoring"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.monitoring.arn
  container_definitions = jsonencode([{
    name      = "monitoring"
    image     = coalesce(var.monitoring_image, local.placeholder_image)
    essential = true
    environment = [
      for key, value in merge(local.settings, { PREDICTION_LOG = local.prediction_log }, var.monitoring_settings) :
      { name = key, value = value }
    ]
    secrets = [ # its own, and of the service's those of the registry only
      for key in setunion(var.secrets, var.monitoring_secrets) :
      { name = key, valueFrom = aws_secretsmanager_secret.setting[key].arn }
      if contains(var.monitoring_secrets, key) || startswith(key, "MLFLOW_")
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.monitoring.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "monitoring"
      }
    }
  }])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
}

data "aws_iam_policy_document" "schedule" {
  statement {
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.monitoring.arn_without_revision}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.monitoring.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  name   = "monitoring"
  role   = aws_iam_role.pipe["schedule"].id
  policy = data.aws_iam_policy_document.schedule.json
}

resource "aws_scheduler_schedule" "monitoring" {
  name                = "${local.name}-monitoring"
  schedule_expression = var.monitoring_schedule
  state               = var.monitoring_image == "" ? "DISABLED" : "ENABLED"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.pipe["schedule"].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.monitoring.arn
      launch_type         = "FARGATE"

      network_configuration {
        subnets          = aws_subnet.public[*].id
        security_groups  = [aws_security_group.tasks.id]
        assign_public_ip = true
      }
    }

    retry_policy {
      maximum_retry_attempts = 2
    }
  }
}

# --- alarms and the budget ----------------------------------------------------------------------

resource "aws_sns_topic" "alerts" {
  name = "${local.name}-alerts"
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alert_email == "" ? 0 : 1
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

# Who names a policy replaces the one that let CloudWatch in. EventBridge's takes no condition.
data "aws_iam_policy_document" "alerts" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

# An alarm, too little data and an error all end the task with another code than 0.
resource "aws_cloudwatch_event_rule" "monitoring" {
  count       = var.monitoring_image == "" ? 0 : 1
  name        = "${local.name}-monitoring"
  description = "The monitoring task ended with another code than 0, or did not start."
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.this.arn]
      group      = ["family:${aws_ecs_task_definition.monitoring.family}"]
      lastStatus = ["STOPPED"]
      "$or" = [
        { containers = { exitCode = [{ anything-but = [0] }] } },
        { stopCode = ["TaskFailedToStart"] },
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "monitoring" {
  count = var.monitoring_image == "" ? 0 : 1
  rule  = aws_cloudwatch_event_rule.monitoring[0].name
  arn   = aws_sns_topic.alerts.arn

  input_transformer {
    input_paths    = { code = "$.detail.containers[0].exitCode", reason = "$.detail.stoppedReason" }
    input_template = "\"${local.name}: monitoring ended with <code> (<reason>). 10 is an alarm. The reasons are in the log ${aws_cloudwatch_log_group.monitoring.name}; docs/monitoring.md says what to do.\""
  }
}

# ECS itself goes back when this one or the next goes off during the last step of a release.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${local.name}-errors"
  alarm_description   = "More than 5 answers a minute are 5xx, for 2 minutes."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_Target_5XX_Count"
  dimensions          = local.live
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 5
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

# A task that dies or hangs answers nothing: the load balancer does, by 502 or 504, and counts these alone.
# Its 503 is for want of tasks, and between releases anybody gets it who asks for the candidate.
resource "aws_cloudwatch_metric_alarm" "unanswered" {
  alarm_name          = "${local.name}-unanswered"
  alarm_description   = "More than 5 requests a minute get no answer from a task, for 2 minutes."
  evaluation_periods  = 2
  threshold           = 5
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "unanswered"
    label       = "502 and 504"
    expression  = "FILL(status502, 0) + FILL(status504, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = ["502", "504"]
    content {
      id = "status${metric_query.value}"

      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = "HTTPCode_ELB_${metric_query.value}_Count"
        dimensions  = { LoadBalancer = aws_lb.this.arn_suffix } # it knows no target group
        stat        = "Sum"
        period      = 60
      }
    }
  }
}

# The two above go off at a number, which a service with few requests never has. ECS does not go back
# for this one: it is still on for a while after what was wrong.
resource "aws_cloudwatch_metric_alarm" "share" {
  alarm_name          = "${local.name}-share"
  alarm_description   = "More than 5 % of the requests of 30 minutes fail, and more than one."
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "share"
    label       = "5xx, 502 and 504, where they are more than 5 %"
    expression  = "IF(failed > 1 AND failed > 0.05 * FILL(requests, 0), failed, 0)"
    return_data = true
  }

  metric_query {
    id         = "failed"
    expression = "FILL(status5xx, 0) + FILL(status502, 0) + FILL(status504, 0)"
  }

  dynamic "metric_query" {
    for_each = {
      requests  = { name = "RequestCount", of = local.live }
      status5xx = { name = "HTTPCode_Target_5XX_Count", of = local.live }
      status502 = { name = "HTTPCode_ELB_502_Count", of = { LoadBalancer = aws_lb.this.arn_suffix } }
      status504 = { name = "HTTPCode_ELB_504_Count", of = { LoadBalancer = aws_lb.this.arn_suffix } }
    }
    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/ApplicationELB"
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.of
        stat        = "Sum"
        period      = 1800
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  alarm_name          = "${local.name}-latency"
  alarm_description   = "The 99th percentile is above 2 s, for 10 minutes."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  dimensions          = local.live
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 10
  threshold           = 2
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "nobody_answers" {
  alarm_name          = "${local.name}-nobody-answers"
  alarm_description   = "No task is healthy, for 3 minutes."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  dimensions          = local.live
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

locals {
  live = {
    LoadBalancer = aws_lb.this.arn_suffix
    TargetGroup  = aws_lb_target_group.this["live"].arn_suffix
  }
}

resource "aws_budgets_budget" "account" {
  count        = var.alert_email == "" ? 0 : 1
  name         = local.name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = [50, 90, 100]
    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = "ACTUAL"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = [var.alert_email]
    }
  }
}
