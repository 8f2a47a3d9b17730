"""Takes the captioner's errors on development scenes apart: what makes it miss an object?

    python benchmark.py --pictures ... --out runs/development/embedded --development
    python losses.py --development runs/development/embedded

Each row of the first table changes one thing about what the captioner is shown and gives the same
objects without the change alongside, so the difference is what that thing costs. The second table
splits the objects instead. ``data/README.md`` quotes both.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from measure import KERNEL, LEAST_SHARE, Thing, best_masks, development, percent

from tasnb.method.masked_images import blur_background, masked_image
from tasnb.models.captioners import Captioner, load_captioner
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.results.shown import to_markdown
from tasnb.settings import make_settings

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class Shown(NamedTuple):
    """An object, its scene and that scene blurred, and SAM's best refined mask with its IoU."""

    thing: Thing
    image: Image
    blurred: Image
    proposal: Mask
    iou: float


def blurred(shown: Shown, mask: Mask | None = None) -> Image:
    """What the method shows: a mask, by default the true one, on a blurred background."""
    return masked_image(shown.image, shown.thing.mask if mask is None else mask, shown.blurred)


def morphed(pixels: int) -> Callable[[Shown], Image]:
    """The mask grown by some pixels, or shrunk by a negative number of them."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode

    def shown_so(shown: Shown) -> Image:
        mask = change(shown.thing.mask.astype(np.uint8), kernel).astype(bool)
        return blurred(shown, mask if mask.any() else None)

    return shown_so


def without(share: float) -> Callable[[Shown], Image]:
    """The mask without a share of its pixels, the lowest ones."""

    def shown_so(shown: Shown) -> Image:
        rows = np.nonzero(shown.thing.mask)[0]
        mask = shown.thing.mask.copy()
        mask[int(np.quantile(rows, 1 - share)) + 1 :] = False
        return blurred(shown, mask)

    return shown_so


def window(margin: float, square: bool, sharp: bool) -> Callable[[Shown], Image]:
    """A window around the mask instead of its box.

    Args:
        margin: On each side, as a share of the box's longer side.
        square: Show what surrounds the box, instead of black bars along its shorter side.
        sharp: Show the background sharp.
    """

    def shown_so(shown: Shown) -> Image:
        mask = shown.thing.mask
        ys, xs = np.nonzero(mask)
        low, high = np.array([ys.min(), xs.min()]), np.array([ys.max(), xs.max()]) + 1
        grow = np.full(2, margin * (high - low).max())
        if square:
            grow = grow + ((high - low).max() - (high - low)) / 2
        (top, left), (bottom, right) = (
            np.clip(low - grow, 0, None).astype(int),
            np.minimum(high + grow, mask.shape).astype(int),
        )
        box = np.zeros_like(mask)
        box[top:bottom, left:right] = True
        around = shown.image if sharp else shown.blurred
        seen = np.where(mask[..., None], shown.image, around)
        return masked_image(seen, box)

    return shown_so


def coarse(shown: Shown) -> Image:
    """At half the resolution."""
    image = blurred(shown)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(half, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


CHANGES: dict[str, Callable[[Shown], Image]] = {
    "SAM's best mask, IoU from 0.5": lambda shown: blurred(shown, shown.proposal),
    "SAM's best mask, IoU from 0.8": lambda shown: blurred(shown, shown.proposal),
    "mask without its lowest fifth": without(0.2),
    "mask grown by 3 pixels": morphed(3),
    "mask shrunk by 2 pixels": morphed(-2),
    "box looser by 10 %": window(0.1, square=False, sharp=False),
    "box looser by 25 %": window(0.25, square=False, sharp=False),
    "surroundings instead of black bars, blurred": window(0, square=True, sharp=False),
    "background sharp": window(0, square=False, sharp=True),
    "natural crop (sharp, looser by 10 %, no bars)": window(0.1, square=True, sharp=True),
    "background black": lambda shown: masked_image(shown.image, shown.thing.mask),
    "mirrored": lambda shown: np.ascontiguousarray(blurred(shown)[:, ::-1]),
    "half the resolution": coarse,
}
"""What is changed -> what is shown then."""

WORTH = {"SAM's best mask, IoU from 0.5": 0.5, "SAM's best mask, IoU from 0.8": 0.8}
"""Rows about objects that SAM covers, and the least IoU."""


def split_by(shown: list[Shown], named: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """How often objects are named, by their properties."""
    looks = pd.DataFrame([item.thing.look for item in shown])
    share = np.array([item.thing.share for item in shown])
    person = (looks["kind"] == "person").to_numpy()
    toned = looks["picture"].map(lambda name: bool(re.search("1f3f[b-f]", name))).to_numpy()
    unseen = looks["unseen"].to_numpy(bool)
    visible = looks["visible"].to_numpy()
    groups = {
        "all": np.ones(len(shown), bool),
        "1 to 2 % of the scene": share < 0.02,
        "2 to 4 %": (share >= 0.02) & (share < 0.04),
        "4 to 8 %": (share >= 0.04) & (share < 0.08),
        "over 8 %": share >= 0.08,
        "entirely visible": visible > 0.99,
        "70 to 99 % visible": (visible > 0.7) & (visible <= 0.99),
        "less visible": visible <= 0.7,
        "picture seen in training": ~unseen,
        "picture unseen, people (skin tones)": unseen & person & toned,
        "picture unseen, others": unseen & ~person,
        **{f"{kind}s": looks["kind"].to_numpy() == kind for kind in looks["kind"].unique()},
    }
    rows = [(name, int(those.sum()), percent(named[those])) for name, those in groups.items()]
    return pd.DataFrame(rows, columns=["objects", "number", "named (%)"])


def confusions(shown: list[Shown], said: list[str], named: npt.NDArray[np.bool_]) -> pd.Series:
    """The most frequent wrong captions, as "noun > caption"."""
    wrong = [
        f"{item.thing.look['noun']} > {text}"
        for item, text, right in zip(shown, said, named, strict=True)
        if not right
    ]
    return pd.Series(wrong).value_counts().head(20)


def names(captioner: Captioner, shown: list[Shown], images: list[Image]) -> npt.NDArray[np.bool_]:
    said = captioner.caption(images)
    return np.array([s.thing.named_by(text) for s, text in zip(shown, said, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--development", type=Path, required=True)
    parser.add_argument("--captioner", default="blip2", choices=("blip2", "git"))
    parser.add_argument("--limit", type=int, default=126, help="images per dataset")
    args = parser.parse_args()
    settings = make_settings(captioner=f"{args.captioner}:embedded/{args.captioner}")
    captioner, network = load_captioner(settings), load_proposal_network(settings)
    shown = []
    for scene in development(args.development, args.limit):
        masks, *_ = best_masks(scene, network, settings)
        around = blur_background(scene.image, KERNEL)
        shown += [
            Shown(thing, scene.image, around, *best)
            for thing, best in zip(scene.things, masks, strict=True)
            if thing.share >= LEAST_SHARE
        ]
    said = captioner.caption([blurred(item) for item in shown])
    named = np.array([item.thing.named_by(text) for item, text in zip(shown, said, strict=True)])
    rows = []
    for change, show in CHANGES.items():
        those = np.array([item.iou >= WORTH.get(change, 0) for item in shown])
        some = [item for item, good in zip(shown, those, strict=True) if good]
        after = percent(names(captioner, some, [show(item) for item in some]))
        before = percent(named[those])
        rows.append((change, len(some), before, after, round(after - before, 1)))
    greedy = load_captioner(settings.model_copy(update={"num_beams": 1}))
    after = percent(names(greedy, shown, [blurred(item) for item in shown]))
    rows.append(
        ("one beam instead of five", len(shown), percent(named), after, after - percent(named))
    )
    columns = ["changed", "objects", "before (%)", "after (%)", "difference"]
    print(to_markdown(pd.DataFrame(rows, columns=columns)))
    print()
    print(to_markdown(split_by(shown, named)))
    print()
    print(confusions(shown, said, named).to_string())


if __name__ == "__main__":
    main()
