"""Tests run inside a rendered project: the model that it begins with is exported exactly."""

from collections.abc import Iterator

import pytest

from .. import bundle
from .test_export import (
    sample,
    scorer,
    test_an_answer_is_the_same_alone_and_in_any_company,
    test_exported_answers_equal_the_models,
)

__all__ = [
    "sample",
    "scorer",
    "test_an_answer_is_the_same_alone_and_in_any_company",
    "test_exported_answers_equal_the_models",
]


@pytest.fixture(autouse=True)
def exactly(scorer: bundle.Scorer, request: pytest.FixtureRequest) -> Iterator[None]:
    """Allow nothing that rounding to single precision would do; a model of one's own may."""
    del scorer  # which is loaded, and so held to what is allowed otherwise, before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "TOLERANCE", 0.0 if "alone" in request.node.name else 1e-12)
        yield
