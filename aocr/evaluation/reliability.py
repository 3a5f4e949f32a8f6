"""How far confidences can be trusted: samples in bins of their confidence."""

BINS = 10  # of the confidence, equally wide in [0, 1]


class Reliability:
    """Sums over samples, by bin of their confidence."""

    def __init__(self) -> None:
        self.binned, self.binned_exact, self.binned_confidence = [0] * BINS, [0] * BINS, [0.0] * BINS

    def add_confidence(self, confidence: float, exact: bool) -> None:
        """Adds a sample."""
        bin = min(int(max(0.0, confidence) * BINS), BINS - 1)  # NaN is in the first
        self.binned[bin] += 1
        self.binned_exact[bin] += exact
        self.binned_confidence[bin] += confidence

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean difference, over the samples' bins, of confidence and exact match; 0.0
        without samples.
        """
        gaps = (abs(confidence - exact) for confidence, exact in zip(self.binned_confidence, self.binned_exact))
        return sum(gaps) / max(sum(self.binned), 1)

    def reliability(self) -> list[dict[str, float]]:
        """Returns the bins that have samples: limits, samples, mean confidence and exact match."""
        return [dict(least=k / BINS, most=(k + 1) / BINS, samples=count, confidence=self.binned_confidence[k] / count,
                     exact_match=self.binned_exact[k] / count) for k, count in enumerate(self.binned) if count]
