"""Tests run inside a rendered project: the model that it begins with is exported exactly."""

from collections.abc import Iterator

import pytest

from .. import bundle
from .test_export import sample, scorer, test_exported_answers_equal_the_models

__all__ = ["sample", "scorer", "test_exported_answers_equal_the_models"]


@pytest.fixture(autouse=True)
def exactly(scorer: bundle.Scorer) -> Iterator[None]:
    """Allow nothing that rounding to single precision would do; a model of one's own may."""
    del scorer  # which is loaded, and so held to what is allowed otherwise, before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "TOLERANCE", 1e-12)
        yield
