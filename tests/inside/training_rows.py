"""Run inside a rendered project: print the training rows' features, one object a row.

Usage: python training_rows.py PACKAGE > INSTANCES.json
"""

import sys
from importlib import import_module
from pathlib import Path

import pandas as pd

package = sys.argv[1]
names = import_module(f"{package}.contract").FEATURE_NAMES
rows = pd.read_parquet(Path("artifacts") / "preprocess" / "train.parquet")[names]
print(rows.to_json(orient="records"))
