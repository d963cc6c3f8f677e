# Runs, versions, aliases and users. PostgreSQL 17 on RDS refuses what is not encrypted, by itself.

resource "aws_db_subnet_group" "this" {
  name       = local.name
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_db_instance" "this" {
  identifier                 = local.name
  engine                     = "postgres"
  engine_version             = "17"
  instance_class             = var.database_class
  allocated_storage          = var.database_gigabytes
  max_allocated_storage      = 5 * var.database_gigabytes
  storage_type               = "gp3"
  storage_encrypted          = true
  multi_az                   = var.database_standby
  db_subnet_group_name       = aws_db_subnet_group.this.name
  vpc_security_group_ids     = [aws_security_group.database.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  apply_immediately          = true

  db_name             = local.settings["PGDATABASE"]
  username            = local.settings["PGUSER"]
  password_wo         = ephemeral.aws_secretsmanager_secret_version.database.secret_string
  password_wo_version = var.password_version

  # A backup each night, and any moment in between.
  backup_retention_period   = 14
  backup_window             = "03:00-04:00"
  copy_tags_to_snapshot     = true
  delete_automated_backups  = false
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${local.name}-final"
}
