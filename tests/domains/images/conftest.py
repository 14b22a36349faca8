"""A judge of digits that several tests share: its classifier takes seconds to train."""

import pytest

from ornstein.domains.images.metrics import ImageJudge
from ornstein.domains.images.sources import DigitsData


@pytest.fixture(scope="session")
def judge() -> ImageJudge:
    return ImageJudge.train(DigitsData().reference())
