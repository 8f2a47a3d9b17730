"""The answer to a picture and an expression: the mask, and the scores of all proposals."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = [
    "mask_id", "V", "P", "N", "S", "center_x", "center_y", "kept", "chosen", "caption",
]  # fmt: skip


def columns_of(pairs: pd.DataFrame) -> list[str]:
    """``COLUMNS``, and what there is beyond the paper: C and G before S, and E after it."""
    more = [name for name in ("C", "G") if name in pairs]
    return [*COLUMNS[:4], *more, "S", *(["E"] if "E" in pairs else []), *COLUMNS[5:]]


NOTHING = "nothing here fits the expression"


@dataclass(frozen=True, repr=False)
class Segmentation:
    """What an expression refers to in an image: one object, or with ``answers="any"`` any number.

    Attributes:
        image: RGB uint8 (H, W, 3).
        expression: The expression as given.
        masks: bool (A, H, W); the chosen proposals, in the order of ``chosen``.
        frame: One row per proposal: mask_id, V, P, N, S, center_x, center_y (pixels), kept (by the
            rectifier), chosen, caption. Beyond the paper, S contains more, as it was added: C (how
            well a heat map agrees with the mask) and G (places, size and relations). If an answer
            may have any number of masks, several may be chosen or none, and E is how much speaks
            for each mask, whatever the others are.
        least_evidence: What E of the best proposal has to reach, or nothing is chosen; None: the
            best proposal is the answer, whatever speaks for it.
    """

    image: npt.NDArray[np.uint8]
    expression: str
    masks: npt.NDArray[np.bool_]
    frame: pd.DataFrame
    least_evidence: float | None = None

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """bool (H, W); the union of ``masks``, empty if there are none."""
        return self.masks.any(0)

    @property
    def chosen(self) -> pd.DataFrame:
        """The rows of ``frame`` that make up the answer, the best one first."""
        rows = self.frame[self.frame["chosen"].astype(bool)]
        return rows.sort_values("S", ascending=False, kind="stable")

    @property
    def fits_nothing(self) -> bool:
        """Whether there are proposals, but too little evidence that any fits the expression."""
        return len(self.frame) > 0 and not self.frame["chosen"].astype(bool).any()

    @property
    def evidence(self) -> float | None:
        """E of the best proposal, which decides whether anything is chosen; None without E."""
        if "E" not in self.frame or self.frame.empty:
            return None
        rows = self.frame[self.frame["kept"].astype(bool)]
        return float(rows.loc[rows["S"].idxmax(), "E"])

    def in_words(self) -> str:
        """The answer as a sentence, such as "3 masks, together 20.1 % of the picture"."""
        if self.frame.empty:
            return "no mask was proposed in this picture"
        if self.fits_nothing:
            return f"{NOTHING}{self.why_nothing}"
        share, count = f"{100 * float(self.mask.mean()):.1f} % of the picture", len(self.masks)
        return f"{count} masks, together {share}" if count > 1 else f"one mask, {share}"

    @property
    def why_nothing(self) -> str:
        """What decided that nothing is chosen, such as " (evidence 0.31 < 0.80)"; "" otherwise."""
        if not self.fits_nothing or self.evidence is None or self.least_evidence is None:
            return ""
        found, least = apart(self.evidence, self.least_evidence)
        return f" (evidence {found} < {least})"

    def __repr__(self) -> str:
        height, width = self.mask.shape
        total, count = _masks(len(self.frame)), len(self.chosen)
        how = f"nothing fits{self.why_nothing}, of" if self.fits_nothing else "chosen from"
        how = how if count < 2 else f"{count} chosen from"
        return (
            f"Segmentation({self.expression!r}: {100 * self.mask.mean():.1f} % of {width} x "
            f"{height} pixels, {how} {total})"
        )

    def _repr_html_(self) -> str:
        """Shown in notebooks: the expression, the picture with the mask, and the table."""
        file, overlay = io.BytesIO(), self.overlay()
        overlay.thumbnail((960, 960))  # only for display
        overlay.save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode("ascii")
        words = html.escape(self.expression)
        is_told = self.fits_nothing or self.least_evidence is not None
        told = f": {html.escape(self.in_words())}" if is_told else ""
        table = self.frame.round(3).to_html(index=False, border=0)  # escapes captions
        return (
            f'<div class="tex2jax_ignore mathjax_ignore"><p>“{words}”{told}</p>'
            f'<img alt="{words}" style="max-width: min(100%, 640px)" '
            f'src="data:image/png;base64,{picture}">{table}</div>'
        )

    def overlay(self) -> Image:
        """The image with the masks in colour, each outlined; dimmed and labelled if none fits."""
        from PIL import Image

        from tasnb.drawing.figures import TAS, paint_mask
        from tasnb.drawing.labels import dimmed

        if self.fits_nothing:
            return dimmed(Image.fromarray(self.image), f"{NOTHING}{self.why_nothing}")
        return Image.fromarray(paint_mask(self.image, self.mask, TAS, parts=self.masks))

    def mask_image(self) -> Image:
        """The union as a greyscale picture of the size of the image, 255 inside and 0 outside."""
        from PIL import Image

        return Image.fromarray(self.mask.astype(np.uint8) * 255)

    def record(self) -> dict[str, Any]:
        """The answer as a JSON-serializable row in COCO's results format.

        Returns:
            expression, size [h, w], segmentation (size and counts, for ``pycocotools.mask``), area
            (pixels), bbox [x, y, w, h]; the score S, mask_id and caption of the best proposal of
            the answer, which are None, -1 and "" if it is empty; mask_ids, those of all proposals
            of the answer; and no_target, whether nothing fits the expression. If an answer may have
            any number of masks, also segmentations, one for each of mask_ids; evidence; and
            least_evidence.
        """
        rle = coco_mask.encode(np.asfortranarray(self.mask, np.uint8))
        chosen = self.chosen
        best = chosen.iloc[0] if len(chosen) else {"S": None, "mask_id": -1, "caption": ""}
        size = [int(side) for side in rle["size"]]
        return {
            "expression": self.expression,
            "size": size,
            "segmentation": _run_lengths(self.mask),
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "score": None if best["S"] is None else float(best["S"]),
            "mask_id": int(best["mask_id"]),
            "caption": str(best["caption"]),
            "mask_ids": [int(one) for one in chosen["mask_id"]],
            "no_target": self.fits_nothing,
            **({} if self.least_evidence is None else self._of_any_number()),
        }

    def _of_any_number(self) -> dict[str, Any]:
        return {
            "segmentations": [_run_lengths(mask) for mask in self.masks],
            "evidence": self.evidence,
            "least_evidence": self.least_evidence,
        }


def apart(value: float, limit: float) -> tuple[str, str]:
    """Two numbers as text, with as many decimals as tell them apart, two or more."""
    digits = next((d for d in range(2, 17) if f"{value:.{d}f}" != f"{limit:.{d}f}"), 2)
    return f"{value:.{digits}f}", f"{limit:.{digits}f}"


def _run_lengths(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths: size [h, w] and counts."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    size = [int(side) for side in rle["size"]]
    return {"size": size, "counts": rle["counts"].decode("ascii")}


def _masks(count: int) -> str:
    return f"{count} mask{'' if count == 1 else 's'}"
