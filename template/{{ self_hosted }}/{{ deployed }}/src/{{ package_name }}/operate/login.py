"""What GitHub must hold so that its jobs may ask a registry, where there is one that lasts."""

REPOSITORY: tuple[str, ...] = ()  # it may do without
EVALUATION: tuple[str, ...] = ()  # of this environment alone
RELEASES: tuple[str, ...] = ()  # of `staging` and of `production`
SECRETS: tuple[str, ...] = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")  # of all three
