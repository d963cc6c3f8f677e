"""Train: fit the network on the training rows and stop where the validation rows say so."""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from . import objective
from .contract import TARGET
from .errors import StageError
from .frames import model_frame
from .model import Encoder, Model, ModelConfig, ready
from .progress import TrainingProgress

EVALUATION_ROWS = 8192  # rows in one forward pass without gradients, to bound its memory


class Rows(NamedTuple):
    """One split as tensors on the device: codes, standardised numbers, scaled target."""

    categories: Tensor
    numbers: Tensor
    target: Tensor


def train(
    training: pd.DataFrame,
    validation: pd.DataFrame,
    config: ModelConfig,
    progress: TrainingProgress,
) -> Model:
    """Return the network with the weights of its best epoch; the same rows and seed give the same.

    Each epoch ends with a checkpoint, and seeds its own shuffling and dropout, so a killed
    training resumes to the result that it would have had.
    """
    torch.set_num_threads(config.threads)
    device = choose_device(config)
    encoder = Encoder.fit(model_frame(training), training[TARGET.name], config)
    torch.manual_seed(config.seed)
    model = Model(encoder, config).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    if config.compile:
        model.compile()
    fitted, held_out = (to_device(rows, encoder, device) for rows in (training, validation))

    history: list[dict[str, float]] = []
    best = copy.deepcopy(model.state_dict())
    if (saved := read_checkpoint(progress.checkpoint, device)) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        history, best = saved["history"], saved["best"]
        for epoch, metrics in enumerate(history, start=1):
            progress.report(epoch, config.epochs, metrics)

    while not is_over(history, config):
        epoch = len(history) + 1
        torch.manual_seed(config.seed + epoch)
        history.append(
            {
                "train_loss": fit_epoch(model, optimizer, fitted, config),
                "validation_loss": mean_loss(model, held_out, config),
            }
        )
        if not math.isfinite(history[-1]["validation_loss"]):
            raise StageError(f"training diverged in epoch {epoch}; lower model.learning_rate")
        if best_epoch(history) == epoch:
            best = copy.deepcopy(model.state_dict())
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        write_checkpoint(progress.checkpoint, {**state, "best": best, "history": history})
        progress.report(epoch, config.epochs, history[-1])

    trained = Model(encoder, config)
    trained.load_state_dict(best)
    return ready(trained)


def choose_device(config: ModelConfig) -> torch.device:
    """Return the accelerator of this machine, if it has one and may use it, else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found if found is not None and config.device == "auto" else torch.device("cpu")


def to_device(rows: pd.DataFrame, encoder: Encoder, device: torch.device) -> Rows:
    """Encode a split once and keep it on the device: batches are then mere slices."""
    features = model_frame(rows)
    return Rows(
        encoder.categories(features).to(device),
        encoder.numbers(features).float().to(device),
        encoder.target(rows).float().to(device),
    )


def forward(model: Model, rows: Rows, config: ModelConfig) -> Tensor:
    """Return the network's outputs, computed in bfloat16 where that is asked for and helps."""
    device = rows.target.device.type
    mixed = config.mixed_precision and device == "cuda"
    with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed):
        output: Tensor = model(rows.categories, rows.numbers)
    return output.float()


def fit_epoch(
    model: Model, optimizer: torch.optim.Optimizer, rows: Rows, config: ModelConfig
) -> float:
    """Take one step per batch, in a random order, and return the mean loss."""
    model.train()
    total = torch.zeros((), device=rows.target.device)
    order = torch.randperm(len(rows.target)).to(rows.target.device)
    for chosen in torch.split(order, config.batch_size):
        batch = Rows(*(part[chosen] for part in rows))
        loss = objective.loss(forward(model, batch, config), batch.target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(chosen)
    return float(total) / len(rows.target)


@torch.inference_mode()
def mean_loss(model: Model, rows: Rows, config: ModelConfig) -> float:
    """Return the mean loss over a split, without dropout."""
    model.eval()
    parts = zip(*(torch.split(part, EVALUATION_ROWS) for part in rows), strict=True)
    output = torch.cat([forward(model, Rows(*part), config) for part in parts])
    return float(objective.loss(output, rows.target))


def best_epoch(history: list[dict[str, float]]) -> int:
    """Return the first epoch with the least validation loss, counted from 1."""
    losses = [metrics["validation_loss"] for metrics in history]
    return losses.index(min(losses)) + 1


def is_over(history: list[dict[str, float]], config: ModelConfig) -> bool:
    """Say whether all epochs are done, or too many went by without progress."""
    stale = len(history) - best_epoch(history) if history else 0
    return len(history) >= config.epochs or stale >= config.patience


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step, so that a kill leaves the old one or the new one."""
    temporary = folder / "checkpoint.tmp"
    torch.save(state, temporary)
    temporary.replace(folder / "checkpoint.pt")


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Return what `write_checkpoint` wrote, or None where there is nothing to resume."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise StageError(f"{path} cannot be read ({error}); delete it to train anew") from error
    return state
