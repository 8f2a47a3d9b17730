"""Asks the workbook's own classes: what is known of a model, and what must hold for any model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from tasnb.models.captioners import load_captioner
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.models.run_lengths import run_lengths
from tasnb.proof.answers import CATS_TEXT, Answer
from tasnb.settings import InputError, Settings

Picture = npt.NDArray[np.uint8]
Value = str | tuple[float, ...]


class Held(NamedTuple):
    """What must hold for a model without a known answer.

    Attributes:
        value: What was found.
        expected: What must hold.
        holds: Whether it does.
    """

    value: str
    expected: str
    holds: bool


def ask(answer: Answer, settings: Settings, picture: Picture) -> Value:
    """The answer of ``answer.model``, loaded by the same functions as in a run.

    Raises:
        InputError: The model cannot be loaded, or the question does not apply to it.
    """
    if answer.ask == "similarity":
        return _similarity(answer, settings, picture)
    if answer.ask == "caption":
        own = {"captioner": answer.model, "num_beams": 1, "max_new_tokens": answer.tokens}
        own |= {"prompt": answer.prompt, "split_images": answer.split_images}
        return load_captioner(settings.model_copy(update=own)).caption([picture])[0]
    own = {"proposal_network": answer.model}
    if answer.ask == "prompt":
        return _prompt(answer, load_proposal_network(settings.model_copy(update=own)), picture)
    for name in ("points_per_side", "pred_iou_thresh", "stability_score_thresh"):
        own[name] = getattr(answer, name)
    own |= {"min_mask_region_area": 0.0}
    network = load_proposal_network(settings.model_copy(update=own))
    masks, predicted, _ = network.propose(picture, "")
    largest = np.sort(predicted)[::-1][: len(answer.expected) - 1]
    lacking = len(answer.expected) - 1 - len(largest)
    return (float(len(masks)), *map(float, largest), *[float("nan")] * lacking)


def must_hold(role: str, model: str, settings: Settings, picture: Picture) -> Held:
    """Checks what holds for any model of its kind; ``role`` is a key of ``ROLES``."""
    return ROLES[role](model, settings, picture)


def _similarity(answer: Answer, settings: Settings, picture: Picture) -> Value:
    encoder = load_encoder(answer.model, settings)
    logits = answer.scale * _cosines(encoder, picture, answer.texts)
    if answer.softmax:
        logits = np.exp(logits - logits.max())
        logits /= logits.sum()
    return tuple(map(float, logits))


def _cosines(encoder: Any, picture: Picture, texts: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Cosines (T,); of a picture with several vectors, that of the most similar one."""
    vectors = np.atleast_2d(encoder.encode_images([picture])[0]).astype(float)
    return (vectors @ encoder.encode_texts(texts).astype(float).T).max(axis=0)


def _prompt(answer: Answer, network: Any, picture: Picture) -> Value:
    import torch
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

    generator = getattr(network, "generator", None)
    if hasattr(generator, "scores_at") and answer.point:
        found = generator.scores_at(picture, np.array([answer.point]))
        return tuple(sorted(map(float, found[0]), reverse=True))
    if not isinstance(network.model, Sam):
        raise InputError(f"{answer.model} takes no points and boxes")
    predictor = SamPredictor(network.model)
    prompts: dict[str, Any] = {}
    if answer.point:
        prompts |= {"point_coords": np.array([answer.point]), "point_labels": np.array([1])}
    if answer.box:
        prompts["box"] = np.array(answer.box)
    with torch.inference_mode():
        predictor.set_image(picture)
        _, predicted, _ = predictor.predict(**prompts, multimask_output=True)
    return tuple(map(float, predicted))


def _encoder_holds(model: str, settings: Settings, picture: Picture) -> Held:
    encoder = load_encoder(model, settings)
    vectors = [*encoder.encode_images([picture]), *encoder.encode_texts([CATS_TEXT])]
    off = max(float(np.abs(np.linalg.norm(v, axis=-1) - 1).max()) for v in vectors)
    right, black = (
        float(_cosines(encoder, image, (CATS_TEXT,))[0])
        for image in (picture, np.zeros_like(picture))
    )
    return Held(
        f"lengths within {off:.0e} of 1; cosine {right:.3f}, black picture {black:.3f}",
        "unit vectors, and a black picture scored below the right one",
        off < 1e-3 and black < right,
    )


def _captioner_holds(model: str, settings: Settings, picture: Picture) -> Held:
    captioner = load_captioner(settings.model_copy(update={"captioner": model}))
    right, black = captioner.caption([picture, np.zeros_like(picture)])
    wanted = "a caption other than that of a black picture"
    return Held(repr(right), wanted, bool(right) and right != black)


def _network_holds(model: str, settings: Settings, picture: Picture) -> Held:
    own = settings.model_copy(update={"proposal_network": model})
    masks, predicted, _ = load_proposal_network(own).propose(picture, "")
    if isinstance(masks, np.ndarray):
        masks = run_lengths(masks)
    inside = [tuple(m["size"]) == picture.shape[:2] and coco_mask.area(m) > 0 for m in masks]
    sane = len(predicted) == len(masks) and bool(np.isfinite(predicted).all())
    height, width = picture.shape[:2]
    return Held(
        f"{sum(inside)} of {len(masks)} masks within {width} x {height} pixels",
        "masks, none empty, all within the picture, with finite scores",
        bool(masks) and all(inside) and sane,
    )


ROLES = {"network": _network_holds, "captioner": _captioner_holds, "encoder": _encoder_holds}
