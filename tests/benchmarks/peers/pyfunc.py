"""Save the model as MLflow's pyfunc, for `mlflow models serve`: `python pyfunc.py FOLDER`."""

import os
import sys

import mlflow.pyfunc
import pandas as pd
from scorers import on_frames, onnx


class Served(mlflow.pyfunc.PythonModel):
    """Loads in the server, not where it is saved."""

    def load_context(self, context: object) -> None:
        """Load the model."""
        del context
        self.on_frames = os.environ["SCORER"] != "onnx"
        self.score = on_frames() if self.on_frames else onnx()

    def predict(self, context: object, model_input: pd.DataFrame) -> list[float]:
        """Score the rows."""
        del context
        if self.on_frames:
            return self.score(model_input)
        rows = model_input.astype(object).where(model_input.notna(), None)
        return self.score(rows.to_dict("records"))


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=Served(), pip_requirements=[])
