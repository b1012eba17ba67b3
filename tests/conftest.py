"""What all tests share: how property tests search."""

import os

from hypothesis import HealthCheck, settings

# The same examples every time: a run that fails can be repeated, and one that passes does so again.
# HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", database=None, deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
