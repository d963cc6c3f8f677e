"""The model: its hyperparameters, how rows become tensors, the network and how it predicts.

Replace the network with any other: nothing outside this file and train.py knows which one it is.
What it learns to do, the loss and the activation of its output, is in objective.py.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from . import objective
from .config import Section
from .contract import CATEGORIES, NUMBERS, TARGET


class ModelConfig(Section):
    """configs/model.yaml: hyperparameters."""

    seed: int = Field(0, ge=0)
    hidden: tuple[int, ...] = Field(description="width of each hidden layer")
    embedding: int = Field(ge=1, description="most dimensions that a category is embedded in")
    min_frequency: int = Field(ge=1, description="rarer categories are treated as unknown")
    dropout: float = Field(ge=0, lt=1)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1, description="most passes over the training rows")
    patience: int = Field(ge=1, description="stop after so many epochs without progress")
    threads: int = Field(1, ge=1, description="of one operation on the CPU; see configs/model.yaml")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: an accelerator if any")
    mixed_precision: bool = Field(True, description="bfloat16 where CUDA has it")
    compile: bool = Field(False, description="torch.compile: pays on large networks, needs C++")


class Encoder(BaseModel):
    """How rows become tensors: what it learnt from the training rows travels with the weights.

    A category's code is its place in the vocabulary, counted from 1; 0 is for those that are
    missing, rare or never seen. Numbers are standardised; a missing one becomes the mean, and
    an indicator tells the network so for each column where training saw that happen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabularies: Mapping[str, tuple[str, ...]]
    means: Mapping[str, float]
    scales: Mapping[str, float]
    gaps: tuple[str, ...]
    target_centre: float
    target_scale: float

    @classmethod
    def fit(cls, features: pd.DataFrame, target: pd.Series, config: ModelConfig) -> Self:
        """Learn the vocabularies and scales of a frame of features, and the target's scale."""
        counts = {name: features[name].value_counts() for name in CATEGORIES}
        numbers = features[NUMBERS]
        scales = numbers.std().fillna(0.0).replace(0.0, 1.0)
        centre, scale = objective.centre_and_scale(target.to_numpy(np.float64))
        return cls(
            vocabularies={
                name: tuple(sorted(count.index[count >= config.min_frequency]))
                for name, count in counts.items()
            },
            means=dict(zip(NUMBERS, numbers.mean().fillna(0.0), strict=True)),
            scales=dict(zip(NUMBERS, scales, strict=True)),
            gaps=tuple(name for name in NUMBERS if numbers[name].isna().any()),
            target_centre=centre,
            target_scale=scale,
        )

    @cached_property
    def codes(self) -> dict[str, dict[str, int]]:
        """The code of each category, by column."""
        return {
            name: {value: code for code, value in enumerate(vocabulary, start=1)}
            for name, vocabulary in self.vocabularies.items()
        }

    def categories(self, features: pd.DataFrame) -> Tensor:
        """Return the categories' codes, shape (rows, categories)."""
        codes = np.zeros((len(features), len(self.codes)), dtype=np.int64)
        for column, (name, code_of) in enumerate(self.codes.items()):
            codes[:, column] = [code_of.get(value, 0) for value in features[name].tolist()]
        return torch.from_numpy(codes)

    def numbers(self, features: pd.DataFrame) -> Tensor:
        """Return the standardised numbers and the indicators, shape (rows, numbers + gaps)."""
        names = [*self.means]
        raw = np.empty((len(features), len(names)), dtype=np.float64)
        for column, name in enumerate(names):
            raw[:, column] = features[name].to_numpy(np.float64)
        scaled = (raw - [*self.means.values()]) / [*self.scales.values()]
        missing = np.isnan(raw[:, [names.index(name) for name in self.gaps]])
        return torch.from_numpy(np.hstack([np.nan_to_num(scaled), missing]))

    def target(self, rows: pd.DataFrame) -> Tensor:
        """Return the target on the scale that the network learns it, shape (rows,)."""
        values = rows[TARGET.name].to_numpy(np.float64)
        return torch.from_numpy((values - self.target_centre) / self.target_scale)


def embedding(size: int, config: ModelConfig) -> nn.Embedding:
    """Return the table of a category with `size` codes; small ones need few dimensions."""
    table = nn.Embedding(size, min(config.embedding, (size + 1) // 2))
    nn.init.normal_(table.weight, std=0.1)
    # Few or no training rows have code 0; it starts out neutral instead of at random.
    nn.init.zeros_(table.weight.data[0])
    return table


class Model(nn.Module):
    """Embedded categories beside standardised numbers, through a multilayer perceptron."""

    def __init__(self, encoder: Encoder, config: ModelConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        embeddings = [embedding(len(v) + 1, config) for v in encoder.vocabularies.values()]
        width = len(encoder.means) + len(encoder.gaps)
        width += sum(table.embedding_dim for table in embeddings)
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))
        self.embeddings = nn.ModuleList(embeddings)

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Return the network's output, shape (rows,); objective.py gives it its meaning."""
        embedded = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        output: Tensor = self.layers(torch.cat([*embedded, numbers], dim=1))
        return output.squeeze(1)


def ready(model: Model) -> Model:
    """Make a trained model ready to predict: on the CPU, without dropout, in double precision.

    Sums in single precision differ in their last digits with the number of rows computed
    together. Computed in double and rounded to single, a row's answer does not depend on the
    rows it is sent with. For a network too large for that, drop `.double()`.
    """
    return model.cpu().double().eval()


@torch.inference_mode()
def predict(model: Model, features: pd.DataFrame) -> NDArray[np.float64]:
    """Return one answer per row, shape (rows,); objective.py says what it means."""
    encoder = model.encoder
    output: Tensor = model(encoder.categories(features), encoder.numbers(features))
    answer = objective.answer(output) * encoder.target_scale + encoder.target_centre
    return answer.float().double().numpy()
