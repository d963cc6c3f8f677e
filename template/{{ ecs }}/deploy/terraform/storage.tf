# Two buckets: the lock and journal of releases, and the predictions.

locals {
  buckets = {
    releases    = { expiring = [], old_days = 90 }
    predictions = { expiring = ["predictions/", "errors/"], old_days = 30 } # and not labels/
  }
}

resource "aws_s3_bucket" "this" {
  for_each      = local.buckets
  bucket        = "${local.name}-${each.key}-${local.account}"
  force_destroy = local.is_staging
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    id     = "old"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = each.value.old_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = each.value.expiring
    content {
      id     = trimsuffix(rule.value, "/")
      status = "Enabled"

      filter {
        prefix = rule.value
      }

      expiration {
        days = 400 # last year's season is there to compare with
      }
    }
  }
}

data "aws_iam_policy_document" "encrypted_only" {
  for_each = local.buckets

  statement {
    sid       = "OnlyOverTLS"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "encrypted_only" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id
  policy   = data.aws_iam_policy_document.encrypted_only[each.key].json
}
