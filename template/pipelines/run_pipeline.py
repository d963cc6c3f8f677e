"""Run the pipeline; `python pipelines/run_pipeline.py --help` lists its options."""

import sys
from importlib.metadata import entry_points

if __name__ == "__main__":
    found = entry_points(group="pipelines", name="run")
    if not found:
        sys.exit("error: this Python does not have the project; run `make install` first")
    found["run"].load()()
