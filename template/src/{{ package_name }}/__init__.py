"""The model, the pipeline that makes it, and the service that answers with it."""

import os
import sys

from . import errors

sys.excepthook = errors.uncaught

# OpenMP's threads spin while they wait for each other; on a busy machine that made training twenty
# times slower and one prediction eight times. It is read when the numeric libraries load.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# MLflow reports usage to its makers from a thread that changes the environment while others read
# it, for which a login failed. Export this as false to have the reports sent.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
