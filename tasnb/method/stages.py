"""The stages of TAS, each of which is computed once per image or text and stored.

For each image: mask proposals (section 3.2), their captions and embeddings, and a caption of the
whole image (3.3). For each text: its embedding, and what is parsed from it (3.3 and 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.images import ImageFile, load_image
from tasnb.method import language, proposals, released
from tasnb.method.masked_images import blur_background, masked_image
from tasnb.models import captioners, encoders, parsers
from tasnb.models.checkpoints import model_digest
from tasnb.models.devices import Ahead, Lazy, to_numpy
from tasnb.models.proposal_networks import FIELDS, load_proposal_network, version_of
from tasnb.settings import Settings, short
from tasnb.store.backends import backend_of
from tasnb.store.shards import Stage, Store

Images = Mapping[str, "ImageFile | Path | npt.NDArray[np.uint8]"]
"""Image key -> the file of the image, or its pixels."""


class Stages:
    """The stages of TAS for given settings.

    Every method computes what is missing in the store, with a progress bar, and returns the results
    for its arguments. Models are loaded only if something is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.store, backend_of(settings))
        self._kept: dict[str, npt.NDArray[np.bool_]] = {}  # image key -> refinement of its masks

    def __reduce__(self) -> tuple[Any, ...]:
        """For workers: the same settings without cached results, on the serial backend."""
        return type(self), (
            self.settings.model_copy(update={"backend": "serial", "scheduler": ""}),
        )

    # -- image side ----------------------------------------------------------------------------

    @cached_property
    def proposal_stage(self) -> Stage:
        model = self.settings.proposal_network
        return self.stage("proposals", FIELDS, model=model, version=version_of(model))

    def proposals(self, images: Images) -> pd.DataFrame:
        """All mask proposals of the images (section 3.2).

        Returns:
            One row per mask with the columns ``proposals.COLUMNS``, ``image`` and ``kept``, which
            says whether the mask survives the refinement (section 4.2).
        """

        def work(keys: list[str]) -> dict[str, pd.DataFrame]:
            network = load_proposal_network(self.settings)
            found = proposals.propose_all(_in_order(images, keys), network, keys)
            frames = [frame.assign(key=key) for key, frame in zip(keys, found, strict=True)]
            return {"masks": pd.concat(frames, ignore_index=True)}

        stage = self.proposal_stage
        stage.compute(images, work, self.settings.shard_size, "proposals (images)")
        masks = stage.read(images, "masks").rename(columns={"key": "image"})
        kept = []
        for image, rows in masks.groupby("image", sort=False):
            if image not in self._kept:  # every stage on masks asks again
                self._kept[image] = proposals.refine(rows, self.settings)
            kept.append(self._kept[image])
        return masks.assign(kept=np.concatenate(kept) if kept else np.zeros(0, bool))

    def refined(self, images: Images) -> pd.DataFrame:
        """The proposals that survive the refinement, with a new index."""
        masks = self.proposals(images)
        return masks[masks["kept"]].reset_index(drop=True)

    def pixels(self, images: Images, image: str) -> npt.NDArray[np.uint8]:
        """An image, RGB uint8 (H, W, 3)."""
        return _pixels(images[image])

    def masks(self, images: Images, image: str, mask_ids: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Some proposals of an image, (M, H, W); mask_id -1 stands for none."""
        rows = self.proposals({image: images[image]}).set_index("mask_id")
        some = [mask_id for mask_id in mask_ids if mask_id >= 0]
        if not some:
            return np.zeros((0, *_pixels(images[image]).shape[:2]), bool)
        return proposals.decode(rows.loc[some])

    def _caption_stage(self, form: str) -> Stage:
        names = list(captioners.FIELDS)
        model, also = self.settings.captioner, captioners.options_set(self.settings)
        version = captioners.VERSION
        if form == "whole":
            return self.stage("captions-whole", names, model=model, version=version, also=also)
        names += self.on_masks(form)
        return self.stage(
            f"captions-{form}", names, self.proposal_stage, model, version=version, also=also
        )

    def captions(self, images: Images, form: str | None = None) -> pd.DataFrame:
        """Captions of the refined masks: image, mask_id, caption.

        Args:
            form: How images are masked, "blur" or "crop"; None: as in the settings.
        """
        form = form or self.settings.caption_input

        def work(keys: list[str]) -> dict[str, pd.DataFrame]:
            rows, pictures = self._masked(images, keys, form)
            texts = captioners.load_captioner(self.settings).caption(pictures)
            return {"captions": rows.assign(caption=pd.Series(texts, dtype=object))}

        stage = self._caption_stage(form)
        stage.compute(images, work, self.settings.shard_size, f"captions, {form} (images)")
        return stage.read(images, "captions").rename(columns={"key": "image"})

    def image_captions(self, images: Images) -> pd.Series:
        """The caption of each whole image, by image key."""

        def work(keys: list[str]) -> dict[str, pd.DataFrame]:
            captioner = captioners.load_captioner(self.settings)
            texts = captioner.caption(_in_order(images, keys))
            return {"captions": pd.DataFrame({"key": keys, "caption": texts})}

        stage = self._caption_stage("whole")
        stage.compute(images, work, 4 * self.settings.shard_size, "captions, whole (images)")
        return stage.read(images, "captions").set_index("key")["caption"]

    def mask_embeddings(
        self, images: Images, encoder: str, form: str | None = None
    ) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
        """The embeddings E_v(I_m) of the refined masks (Eq. 1 and 2).

        Returns:
            Rows (image, mask_id), and unit vectors (M, D) in the same order.
        """
        form = form or self.settings.clip_input
        if form == "both":
            raise ValueError("there are no embeddings of both views together: see mask_views")

        def work(keys: list[str]) -> dict[str, Any]:
            rows, pictures = self._masked(images, keys, form)
            vectors = encoders.load_encoder(encoder, self.settings).encode_images(pictures)
            return {"rows": rows, "vectors": (vectors, list(rows["key"]))}

        stage = self.stage(
            f"crops-{form}",
            self.on_masks(form),
            self.proposal_stage,
            encoder,
            encoders.version_of(encoder),
        )
        title = f"{short(encoder)}, {form} (images)"
        stage.compute(images, work, self.settings.shard_size, title)
        vectors, _ = stage.read(images, "vectors")
        return stage.read(images, "rows").rename(columns={"key": "image"}), vectors

    def mask_views(
        self, images: Images, encoder: str, form: str | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """The vectors of ``mask_embeddings`` in each form that is seen, two for "both"."""
        form = form or self.settings.clip_input
        forms = ("crop", "blur") if form == "both" else (form,)
        return [self.mask_embeddings(images, encoder, one)[1] for one in forms]

    def coherence(self, images: Images, encoder: str) -> npt.NDArray[np.float32]:
        """A vector for each refined mask whose product with E_t says how well a heat map agrees.

        Beyond the paper. The product is the mean inside the mask, minus the mean outside, of CLIP's
        Score Map of the text, which is linear in it; so no text is needed here.

        Returns:
            (M, D).

        Raises:
            InputError: The encoder has no image tower of CLIP.
        """

        def work(keys: list[str]) -> dict[str, Any]:
            import torch

            from tasnb.models.clip.activation_maps import inside_less_outside, score_map
            from tasnb.models.clip.towers import to_pixels, tower_of

            tower = tower_of(encoders.load_encoder(encoder, self.settings))
            masks = self.refined({key: images[key] for key in keys})
            vectors = [np.zeros((0, 1), np.float32)] if masks.empty else []
            ahead = Ahead(masks["image"], lambda key: _pixels(images[key]))
            for key, rows in masks.groupby("image", sort=False):
                pixels = to_pixels(tower, ahead(str(key)), imagenet=True)
                with torch.inference_mode():
                    places = to_numpy(score_map(tower, pixels)[0])
                for some in proposals.decoded(rows):
                    weights = inside_less_outside(some, *places.shape[:2])
                    vectors.append(weights @ places.reshape(-1, places.shape[-1]))
            return {"vectors": (np.concatenate(vectors), list(masks["image"]))}

        stage = self.stage("coherence", self.on_masks(), self.proposal_stage, encoder)
        title = f"coherence, {short(encoder)} (images)"
        stage.compute(images, work, self.settings.shard_size, title)
        return stage.read(images, "vectors")[0]

    def on_masks(self, form: str | None = None) -> list[str]:
        """The settings on which the refined masks depend, or with a form, their masked images."""
        names = ["subset_overlap", "min_mask_area", "areas_of"]
        names += ["crop_rule"] if form else []
        return [*names, "blur_kernel"] if form == "blur" else names

    def _masked(
        self, images: Images, keys: list[str], form: str
    ) -> tuple[pd.DataFrame, Lazy[npt.NDArray[np.uint8]]]:
        """Rows (key, mask_id) for the refined masks of some images, and the masked images.

        Only one image at a time and the next one are in memory, with those masked images that are
        in use.
        """
        masks = self.refined({key: images[key] for key in keys})
        owners, rles = masks["image"].tolist(), proposals.to_rles(masks)

        def with_background(key: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray | None]:
            image = _pixels(images[key])
            kernel = self.settings.blur_kernel
            return image, blur_background(image, kernel) if form == "blur" else None

        ahead = Ahead(owners, with_background)

        def picture(row: int) -> npt.NDArray[np.uint8]:
            image, background = ahead(owners[row])
            mask = coco_mask.decode(rles[row]).astype(bool)
            return masked_image(image, mask, background, self.settings.crop_rule)

        rows = masks.rename(columns={"image": "key"})[["key", "mask_id"]]
        return rows, Lazy(range(len(masks)), picture)

    # -- text side -----------------------------------------------------------------------------

    def text_embeddings(
        self, texts: Iterable[str], encoder: str, normalize: bool = True
    ) -> dict[str, npt.NDArray[np.float32]]:
        """The embedding E_t of each distinct text, (D,); a unit vector if ``normalize``."""
        texts = sorted(set(texts))

        def work(keys: list[str]) -> dict[str, Any]:
            loaded = encoders.load_encoder(encoder, self.settings)
            return {"vectors": loaded.encode_texts(keys, normalize)}

        name, version = "texts" if normalize else "texts-raw", encoders.version_of(encoder)
        stage = self.stage(name, [], model=encoder, version=version)
        stage.compute(texts, work, 1024, f"{short(encoder)} (texts)")
        vectors, keys = stage.read(texts, "vectors")
        return dict(zip(keys, vectors, strict=True))

    def expressions(self, texts: Iterable[str]) -> pd.DataFrame:
        """``language.read_expressions`` for each distinct expression, by text.

        The orientation follows ``settings.rectifier_rule``, the head ``settings.negative_rule``.
        """
        texts = sorted(set(texts))
        published = self._read(texts, language, version=3)
        rules = {"orientation": self.settings.rectifier_rule, "head": self.settings.negative_rule}
        theirs = [name for name, rule in rules.items() if rule == "released"]
        if not theirs:
            return published
        return published.assign(**self._read(texts, released)[theirs])

    def _read(self, texts: list[str], by: Any, version: int = 1) -> pd.DataFrame:
        """``read_expressions`` of ``tasnb.method.language`` or ``tasnb.method.released``."""

        def work(keys: list[str]) -> dict[str, pd.DataFrame]:
            parser = parsers.load_parser(self.settings.spacy_model)
            return {"expressions": by.read_expressions(keys, parser)}

        name = "expressions" if by is language else "expressions-released"
        stage = self.word_stage(name, version, by is released)
        stage.compute(texts, work, 1024, f"read {name} (texts)")
        return stage.read(texts, "expressions").set_index("key")

    def noun_phrases(self, texts: Iterable[str]) -> dict[str, list[language.Phrase]]:
        """The noun phrases of each distinct caption, according to ``settings.negative_rule``."""
        texts = sorted(set(texts))
        theirs = self.settings.negative_rule == "released"

        def work(keys: list[str]) -> dict[str, pd.DataFrame]:
            parser = parsers.load_parser(self.settings.spacy_model)
            found = (released if theirs else language).noun_phrases(keys, parser)
            rows = [
                (key, *phrase) for key, some in zip(keys, found, strict=True) for phrase in some
            ]
            columns = ["key", "text", "head"] if theirs else ["key", "text", "head", "nouns"]
            return {"phrases": pd.DataFrame(rows, columns=columns)}

        name, version = ("phrases-released", 1) if theirs else ("phrases", 2)
        stage = self.word_stage(name, version, theirs)
        stage.compute(texts, work, 1024, "noun phrases (texts)")
        rows = stage.read(texts, "phrases")
        found: dict[str, list[language.Phrase]] = {text: [] for text in texts}
        if theirs:  # the released code compares only the first noun
            rows = rows.assign(nouns=rows["head"])
        for key, *phrase in rows[["key", *language.Phrase._fields]].itertuples(index=False):
            found[key].append(language.Phrase(*phrase))
        return found

    def word_stage(self, name: str, version: int, by_released: bool) -> Stage:
        """A stage that parses texts; the released rules use NLTK's tagger if it is installed."""
        tagged = by_released and parsers.installed_tagger() is not None
        also = {"tagger": parsers.TAGGER} if tagged else {}
        return self.stage(name, ["spacy_model"], version=version, also=also)

    def stage(
        self,
        name: str,
        fields: Sequence[str],
        inputs: Stage | None = None,
        model: str | None = None,
        version: int = 1,
        also: Mapping[str, Any] | None = None,
    ) -> Stage:
        """A stage whose results depend on some settings, a model's weights and another stage.

        Args:
            also: Other values on which the results depend, by name.
        """
        chosen = {field: getattr(self.settings, field) for field in fields}
        if "spacy_model" in chosen:  # which one depends on what is installed
            chosen["spacy_model"] = parsers.installed_parser(self.settings.spacy_model)
        chosen |= also or {}
        if model:
            chosen |= {"model": model, "weights": model_digest(model, self.settings)}
        return self.store.stage(name, version, chosen, [inputs.fingerprint] if inputs else [])


def _in_order(images: Images, keys: list[str]) -> Lazy[npt.NDArray[np.uint8]]:
    """The pixels of some images, each read while the one before it is in use."""
    return Lazy(keys, Ahead(keys, lambda key: _pixels(images[key])))


def _pixels(image: ImageFile | Path | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return image if isinstance(image, np.ndarray) else load_image(image)
