"""From a trained model to a bundle, if the exported model answers as the trained one does."""

from pathlib import Path

import numpy as np
import onnx
import pandas as pd

from . import bundle, model_format, to_onnx
from .bundle import Description
from .contract import CATEGORIES, FEATURES, NUMBERS, Column
from .errors import ProjectError, first_line
from .frames import model_frame, scored
from .model import Model, predict

PROBED_ROWS = 200
NEAR, FAR = 1e-6, 1e9  # of an end that is itself not allowed; where the schema sets none


class ExportError(ProjectError):
    """A model could not be exported, or its export answers otherwise."""


def export(model: Model, rows: pd.DataFrame, folder: Path) -> Description:
    """Write the bundle of a model into a folder.

    Parameters
    ----------
    model
        The trained model.
    rows
        Rows on which the exported model must answer as the trained one does, to
        `bundle.TOLERANCE`; they are tried with unseen, missing and extreme values as well.
    folder
        An empty folder.

    Returns
    -------
    Description
        Its runtime is "onnx", or "native" with the reason in its note.
    """
    reason = "no conversion is known"
    for convert in to_onnx.CONVERSIONS:
        try:
            _check_and_write(convert(model), model, rows, folder)
        except Exception as error:  # noqa: BLE001 - converters raise many kinds
            reason = first_line(error)
        else:
            description = bundle.describe("onnx")
            break
    else:  # none answers as the model does, which still serves
        (folder / bundle.GRAPH).unlink(missing_ok=True)
        model_format.save(model, folder)
        description = bundle.describe("native", f"not exported to ONNX: {reason}")
    (folder / bundle.DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n", "utf-8")
    return description


def _check_and_write(
    graph: onnx.ModelProto, model: Model, rows: pd.DataFrame, folder: Path
) -> None:
    onnx.checker.check_model(graph)
    (folder / bundle.GRAPH).write_bytes(graph.SerializeToString())
    score = bundle.graph(folder / bundle.GRAPH)
    for name, probe in probes(model_frame(rows)).items():
        worst = bundle.differ(scored(score, probe), predict(model, probe))
        if not worst <= bundle.TOLERANCE:
            raise ExportError(f"its answers differ by {worst:.2g} on {name}")


def probes(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the frame, and parts of it with what serving may send and training may not have had.

    A column whose missing values the model cannot take shows in its own answers, which the
    exported model then has to share.
    """
    some = frame.head(PROBED_ROWS)
    unseen = dict.fromkeys(CATEGORIES, "never seen")
    gaps = {c.name: None if c.kind == "category" else np.nan for c in FEATURES if c.nullable}
    spans = {c.name: ends(c) for c in FEATURES if c.name in NUMBERS}
    return {
        "the rows": frame,
        "unseen categories": some.assign(**unseen),
        "missing values": some.assign(**gaps),
        "the least values": some.assign(**{name: least for name, (least, _) in spans.items()}),
        "the greatest values": some.assign(**{name: most for name, (_, most) in spans.items()}),
    }


def ends(column: Column) -> tuple[float, float]:
    """Return about the least and the greatest number that the schema allows in a column."""
    if column.kind == "boolean":
        return 0.0, 1.0
    step = 1.0 if column.kind == "integer" else NEAR
    low = column.at_least if column.above is None else column.above + step
    high = column.at_most if column.below is None else column.below - step
    return -FAR if low is None else float(low), FAR if high is None else float(high)
