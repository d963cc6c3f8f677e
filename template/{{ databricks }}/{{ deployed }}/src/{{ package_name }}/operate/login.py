"""What GitHub must hold so that its jobs may ask this registry: docs/databricks.md says whose."""

REPOSITORY: tuple[str, ...] = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MODEL_NAME",
    "DATABRICKS_HOST",
)
EVALUATION: tuple[str, ...] = ("DATABRICKS_CLIENT_ID",)  # of this environment alone
RELEASES: tuple[str, ...] = ("DATABRICKS_CLIENT_ID",)  # of `staging` and of `production`
SECRETS: tuple[str, ...] = ()  # of all three
