"""Run the pipeline; `python pipelines/run_pipeline.py --help` lists its options."""

from importlib.metadata import entry_points

(pipeline,) = entry_points(group="pipelines", name="run")

if __name__ == "__main__":
    pipeline.load()()
