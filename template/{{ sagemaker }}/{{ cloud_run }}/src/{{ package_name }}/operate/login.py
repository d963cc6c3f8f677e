"""What GitHub must hold so that its jobs may ask this registry: docs/sagemaker.md says whose."""

REPOSITORY: tuple[str, ...] = ("MLFLOW_TRACKING_URI", "AWS_REGION")
EVALUATION: tuple[str, ...] = ("AWS_ROLE_ARN",)  # of this environment alone
RELEASES: tuple[str, ...] = ("AWS_ROLE_ARN",)  # of `staging` and of `production`
SECRETS: tuple[str, ...] = ()  # of all three
