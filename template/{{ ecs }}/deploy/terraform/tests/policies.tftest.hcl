# `terraform test`, here in deploy/terraform: what is asked of the plan, without an account.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  environment          = "staging"
  github_repository    = "acme/app"
  github_owner_id      = "11"
  github_repository_id = "22"
  state_bucket         = "state"
}

run "a_failed_deployment_goes_back" {
  command = plan

  assert {
    condition     = aws_ecs_service.this["live"].deployment_circuit_breaker[0].rollback
    error_message = "The circuit breaker must put the last good release back."
  }

  assert {
    condition     = aws_ecs_service.this["live"].alarms[0].rollback
    error_message = "An alarm must put the last good release back."
  }

  assert {
    condition     = contains(aws_ecs_service.this["live"].alarms[0].alarm_names, aws_cloudwatch_metric_alarm.unanswered.alarm_name)
    error_message = "Tasks that do not answer must put the last good release back, as those that answer errors."
  }

  assert {
    condition     = aws_ecs_service.this["live"].deployment_minimum_healthy_percent == 100
    error_message = "No task may stop before its successor is healthy."
  }
}

run "nothing_is_paid_for_between_releases_but_what_serves" {
  command = plan

  assert {
    condition     = aws_ecs_service.this["candidate"].desired_count == 0
    error_message = "The candidate has tasks during a release only."
  }

  assert {
    condition     = aws_scheduler_schedule.monitoring.state == "DISABLED"
    error_message = "Without an image there is nothing to start."
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.monitoring) == 0
    error_message = "Without an image there is nothing to tell of."
  }
}

run "only_the_repository_by_its_numbers_is_trusted" {
  command = plan

  assert {
    condition     = one([for s in data.aws_iam_policy_document.github["deploy"].statement : s]).condition != null
    error_message = "The trust has no condition."
  }

  assert {
    condition     = join(",", local.repositories) == "repo:acme@11/app@22"
    error_message = "The subject must hold the numbers of owner and repository, and nothing else."
  }
}

run "older_repositories_send_the_name_alone" {
  command = plan

  variables {
    github_subject_by_name = true
  }

  assert {
    condition     = join(",", local.repositories) == "repo:acme@11/app@22,repo:acme/app"
    error_message = "Both forms of the subject must be trusted."
  }
}

run "production_builds_nothing" {
  command = plan

  variables {
    environment = "production"
  }

  assert {
    condition     = length(aws_ecr_repository.images) == 0
    error_message = "Production takes staging's images."
  }
}

run "the_weekly_image_outlives_what_each_release_makes" {
  command = plan

  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.images[0].policy).rules[0].selection.tagPatternList == ["*monitoring*"]
    error_message = "What matches the first rule, no later one deletes."
  }

  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.images[0].policy).rules[1].selection.tagStatus == "any"
    error_message = "The rule for any image must be the last."
  }
}

run "labels_do_not_expire_with_predictions" {
  command = plan

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.this["predictions"].rule :
      rule.filter[0].prefix => rule.expiration[0].days if length(rule.expiration) > 0
    } == { "predictions/" = 400, "errors/" = 400 }
    error_message = "What the service logged is deleted after 400 days, and nothing else is."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this["releases"].rule : length(rule.expiration) == 0])
    error_message = "The journal of releases stays."
  }
}

run "a_certificate_needs_its_name" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/1"
  }

  expect_failures = [var.domain]
}

run "few_requests_that_fail_are_told_of" {
  command = plan

  assert {
    condition = {
      for query in aws_cloudwatch_metric_alarm.share.metric_query : query.id => query.expression if query.expression != null && query.expression != ""
      } == {
      share  = "IF(failed > 1 AND failed > 0.05 * FILL(requests, 0), failed, 0)"
      failed = "FILL(status5xx, 0) + FILL(status502, 0) + FILL(status504, 0)"
    }
    error_message = "More than one request that fails, and more than 5 %, must be told of."
  }

  assert {
    condition     = !contains(aws_ecs_service.this["live"].alarms[0].alarm_names, aws_cloudwatch_metric_alarm.share.alarm_name)
    error_message = "What failed half an hour ago must put no release back."
  }
}

run "names_fit_the_limits_of_aws" {
  command = plan

  variables {
    environment = "production"
    name        = "abcdefghijklmn"
  }

  assert {
    condition     = alltrue([for each in aws_lb_target_group.this : length(each.name) <= 32])
    error_message = "Target groups have names of up to 32 characters, as load balancers do."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket.this : length(each.bucket) <= 63])
    error_message = "Buckets have names of up to 63 characters."
  }

  assert {
    condition     = alltrue([for each in concat(values(aws_iam_role.github), values(aws_iam_role.pipe), [aws_iam_role.monitoring]) : length(each.name) <= 64])
    error_message = "Roles have names of up to 64 characters."
  }
}

run "fargate_has_no_such_size" {
  command = plan

  variables {
    cpu    = 256
    memory = 4096
  }

  expect_failures = [var.memory]
}

run "there_is_no_third_environment" {
  command = plan

  variables {
    environment = "test"
  }

  expect_failures = [var.environment]
}
