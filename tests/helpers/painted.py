"""Images of the embedded benchmark, and settings with which each takes about a second."""

from __future__ import annotations

from tasnb.settings import ROOT

PICTURES = sorted((ROOT / "data" / "embedded" / "images").glob("*.jpg"))[:8]
# Few proposals of any quality and short captions, for tests that do not depend on them.
QUICK = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "num_beams": 1,
    "max_new_tokens": 6,
}
