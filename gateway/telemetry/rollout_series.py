"""RolloutSeries: what is told of experiments, ratings, and rollouts that were taken back."""

from gateway.telemetry.series import Counts, Series


class RolloutSeries:
    """Three counters."""

    def __init__(self) -> None:
        self.variants = Counts(
            "ssegw_variant_outcomes_total", "How streams of an experiment ended", "variant", "outcome"
        )
        self.ratings = Counts("ssegw_feedback_total", "Ratings of answers by their readers", "rating")
        self.rollbacks = Counts("ssegw_rollbacks_total", "Rollouts that this process took back", "trigger")

    def series(self) -> list[Series]:
        """All of them."""
        return [found for found in vars(self).values() if isinstance(found, Series)]
