"""What the network learns: to tell yes from no."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def centre_and_scale(_target: NDArray[np.float64]) -> tuple[float, float]:
    """Return what to subtract from the target and then to divide it by: nothing, and one."""
    return 0.0, 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean log loss of log-odds against answers of 0 and 1, both shape (rows,)."""
    return functional.binary_cross_entropy_with_logits(output, target)


def answer(output: Tensor) -> Tensor:
    """Turn log-odds into the probability of yes."""
    return output.sigmoid()
