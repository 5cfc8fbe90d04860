"""Every model's tiny checkpoint."""

from __future__ import annotations

import pytest

from tests.extract.video.tiny import Tiny, all_tiny


@pytest.fixture(params=all_tiny(), ids=lambda tiny: tiny.id)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    each: Tiny = request.param
    return each
