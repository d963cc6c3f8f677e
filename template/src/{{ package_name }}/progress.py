"""What a training loop tells the outside, and where it may keep a checkpoint."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Sink = Callable[[int, Mapping[str, float]], None]


class TrainingProgress:
    """Passes each step's metrics to the terminal, to a history file and to the tracked run.

    `checkpoint` is a folder that outlives a killed run of the same configuration, data and code;
    it is removed once training completes.
    """

    def __init__(self, checkpoint: Path, sink: Sink | None = None) -> None:
        self.checkpoint = checkpoint
        self._sink = sink
        self._history: list[dict[str, float]] = []
        console = Console()
        self._bar = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed}/{task.total} {task.fields[metrics]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=None, metrics="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of one step out of `total`."""
        text = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._bar.update(self._task, completed=step, total=total, metrics=text)
        self._history.append({"step": step, **metrics})
        if self._sink is not None:
            self._sink(step, metrics)

    def write_history(self, path: Path) -> None:
        """Write one record per reported step, as JSON."""
        path.write_text(json.dumps(self._history, indent=1) + "\n", encoding="utf-8")
