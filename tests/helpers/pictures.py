"""Pictures of the embedded benchmark, and settings under which one is answered in a second."""

from __future__ import annotations

from tasnb.settings import ROOT

PICTURES = sorted((ROOT / "data" / "embedded" / "images").glob("*.jpg"))[:8]
# A few proposals of any quality and short captions: for tests in which it does not matter what
# they say.
QUICK = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "num_beams": 1,
    "max_new_tokens": 6,
}
