"""What GitHub must hold so that its jobs may ask this registry: docs/sagemaker.md says whose."""

REPOSITORY: tuple[str, ...] = ("MLFLOW_TRACKING_URI",)
EVALUATION: tuple[str, ...] = ("AWS_ROLE_ARN", "AWS_REGION")  # of this environment alone
RELEASES: tuple[str, ...] = ()  # `make github` gives `staging` and `production` theirs
SECRETS: tuple[str, ...] = ()
