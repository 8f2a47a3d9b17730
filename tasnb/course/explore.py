"""Checks of the exercises of notebook 00."""

from __future__ import annotations

from typing import Any

from tasnb.course.checking import Exercise
from tasnb.course.verdicts import expect
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import total_score

SCORES = {"V": [0.30, 0.28], "P": [0.40, 0.90], "N": [-0.20, -0.25]}
"""V, P and N of two masks, as printed in the exercise."""
ALPHA, LAM = 0.1, 0.7


def winner(_: Pipeline, best: Any, best_with_large_alpha: Any) -> str:
    import numpy as np

    v, p, n = (np.array(SCORES[name]) for name in "VPN")
    answers = ((best, ALPHA), (best_with_large_alpha, 1.0))
    for given, alpha in answers:
        expect(
            given in (0, 1) and not isinstance(given, bool),
            "Answer with the number of a mask: 0 for the first, 1 for the second.",
        )
        expect(
            given == int(total_score(v, p, n, alpha, LAM).argmax()),
            f"With alpha = {alpha}, write out V + alpha P + lambda N for both masks. N is negative "
            "already, so it is added, not subtracted.",
        )
    return "With a large alpha, the caption decides, whatever the image encoder sees."


EXERCISES = {
    "0.1": Exercise(
        ("best", "best_with_large_alpha"),
        "Compute S for two masks by hand and say which one is chosen.",
        winner,
    )
}
