# GitHub's jobs exchange their own short-lived token for one of these roles: no key exists.
# `make bootstrap` registers GitHub with the account, once for all its repositories.

locals {
  github       = "token.actions.githubusercontent.com"
  owner_name   = split("/", var.github_repository)
  by_number    = "repo:${local.owner_name[0]}@${var.github_owner_id}/${local.owner_name[1]}@${var.github_repository_id}"
  repositories = concat([local.by_number], var.github_subject_by_name ? ["repo:${var.github_repository}"] : [])
  roles        = { deploy = var.environment, plan = "plan" } # role = GitHub environment
}

data "aws_iam_policy_document" "github" {
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:${local.partition}:iam::${local.account}:oidc-provider/${local.github}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:aud"
      values   = ["sts.amazonaws.com"]
    }

    # Compared whole: a job outside the GitHub environment has another subject.
    condition {
      test     = "StringEquals"
      variable = "${local.github}:sub"
      values   = [for repository in local.repositories : "${repository}:environment:${each.value}"]
    }
  }
}

resource "aws_iam_role" "github" {
  for_each             = local.roles
  name                 = "${local.name}-${each.key}"
  description          = "${each.key} from the GitHub environment ${each.value} of ${var.github_repository}"
  assume_role_policy   = data.aws_iam_policy_document.github[each.key].json
  max_session_duration = 7200
}

# --- who releases -----------------------------------------------------------------------------

data "aws_iam_policy_document" "deploy" {
  statement {
    sid = "AskedWithoutResource" # these actions know no resource to be limited to
    actions = concat(
      [
        "cloudwatch:GetMetricStatistics",
        "ecs:DescribeTaskDefinition",
        "ecs:RegisterTaskDefinition",
        "elasticloadbalancing:DescribeListeners",
      ],
      local.is_staging ? ["ecr:GetAuthorizationToken"] : []
    )
    resources = ["*"]
  }

  statement {
    sid       = "Services"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = [for service in aws_ecs_service.this : service.id]
  }

  statement {
    sid       = "Weights"
    actions   = ["elasticloadbalancing:ModifyListener"]
    resources = [aws_lb_listener.public.arn]
  }

  statement {
    sid       = "OnlyTheServicesRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.task.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "LockAndJournal"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.this["releases"].arn}/*"]
  }

  statement {
    sid       = "TellAbsentFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["releases"].arn]
  }

  # Only staging builds, so only its role may push; production's cannot change an image.
  dynamic "statement" {
    for_each = local.is_staging ? [1] : []
    content {
      sid = "Push"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:DescribeImages",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
      ]
      resources = [local.repository]
    }
  }
}

resource "aws_iam_role_policy" "deploy" {
  name   = "release"
  role   = aws_iam_role.github["deploy"].id
  policy = data.aws_iam_policy_document.deploy.json
}

# --- who plans, for pull requests: reads how things are set up, no data and no secret ------------

resource "aws_iam_role_policy_attachment" "plan" {
  for_each   = toset(["SecurityAudit", "job-function/ViewOnlyAccess"])
  role       = aws_iam_role.github["plan"].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.key}"
}

data "aws_iam_policy_document" "plan" {
  statement {
    sid       = "State"
    actions   = ["s3:GetObject"]
    resources = ["arn:${local.partition}:s3:::${var.state_bucket}/${local.name}/*"]
  }

  statement {
    sid = "WhatNeitherPolicyReads"
    actions = [
      "application-autoscaling:ListTagsForResource",
      "budgets:ListTagsForResource",
      "budgets:ViewBudget",
      "scheduler:GetSchedule",
    ]
    resources = [
      aws_appautoscaling_target.live.arn,
      aws_scheduler_schedule.monitoring.arn,
      "arn:${local.partition}:budgets::${local.account}:budget/${local.name}",
    ]
  }
}

resource "aws_iam_role_policy" "plan" {
  name   = "state"
  role   = aws_iam_role.github["plan"].id
  policy = data.aws_iam_policy_document.plan.json
}

# --- the service itself -----------------------------------------------------------------------

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# What ECS needs to start a task.
resource "aws_iam_role" "execution" {
  name               = "${local.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"] # knows no resource
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [local.repository]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for group in [aws_cloudwatch_log_group.service, aws_cloudwatch_log_group.monitoring] : "${group.arn}:*"]
  }

  dynamic "statement" {
    for_each = length(local.secrets) == 0 ? [] : [1]
    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [for secret in aws_secretsmanager_secret.setting : secret.arn]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# What the service itself may do in AWS: nothing, until you attach a policy.
resource "aws_iam_role" "task" {
  name               = "${local.name}-task"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}
