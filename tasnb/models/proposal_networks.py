"""Mask proposal networks, selected by name in the settings (section 3.2).

The paper uses SAM and compares it with FreeSOLO. ``sam:...`` is Segment Anything in its authors'
code, ``hf:...`` any mask-generation model of transformers (SAM, SAM-HQ, SAM 2, EdgeTAM ...),
``freesolo:...`` FreeSOLO, ``fastsam:...`` FastSAM, ``felzenszwalb`` a segmentation of 2004 without
learning, and ``file:...`` a file of precomputed masks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from tasnb.datasets.segmentations import read_mask
from tasnb.models.checkpoints import (
    DAMAGED,
    checkpoint_folder,
    from_folder,
    is_elsewhere,
    load_weights,
    loading,
    model_source,
    registered,
    resident_model,
)
from tasnb.models.devices import compile_tower, device, pixels_at_once, to_numpy
from tasnb.models.run_lengths import RunLengths, run_lengths
from tasnb.settings import ROOT, InputError, Settings
from tasnb.store.threads import in_one_thread

Masks = npt.NDArray[np.bool_] | list[RunLengths]
Proposed = tuple[Masks, npt.NDArray[np.float64], npt.NDArray[np.float64]]


TOGETHER = 4
"""Images that SAM encodes together on a GPU, fewer if its memory does not suffice. A CPU is not
faster with more than one, and would need a gigabyte more for each."""


class ProposalNetwork(Protocol):
    """Finds masks in an image, independently of any expression."""

    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        """Masks, predicted IoUs (M,) and stability scores (M,) for an image (H, W, 3).

        The masks are M run-length encodings, or bool (M, H, W) if the network returns an array.

        Args:
            image: RGB, uint8.
            key: The key of the image, from ``images.image_key``; "" if it has none.
        """


class _GridOfPoints:
    """Masks at the points of a regular grid (section 4.2), filtered as by Segment Anything.

    Attributes:
        together: Images that ``encode`` encodes together; 1 if it is not worth calling.
    """

    together = 1

    def __init__(self, model: Any, generator: Any, settings: Settings) -> None:
        self.model = model
        self.generator = generator
        self.settings = settings

    @in_one_thread
    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        import torch

        self.generator.min_mask_region_area = self.settings.pixels_on(
            self.settings.min_mask_region_area, *image.shape[:2]
        )
        with torch.inference_mode():
            found = self.generator.generate(image)
        found = [row for row in found if row["area"] > 0]
        masks = [
            {**row["segmentation"], "counts": row["segmentation"]["counts"].encode()}
            for row in found
        ]
        predicted = np.array([row["predicted_iou"] for row in found], float)
        return masks, predicted, np.array([row["stability_score"] for row in found], float)


def _grid_options(settings: Settings) -> dict[str, Any]:
    """What a generator of masks on a grid is given besides its network."""
    names = ("points_per_side", "pred_iou_thresh", "stability_score_thresh")
    options = {name: getattr(settings, name) for name in names}
    return {"most_pixels": pixels_at_once(settings.batch_size), **options}


class SamProposals(_GridOfPoints):
    """Segment Anything's automatic masks."""

    def __init__(self, settings: Settings) -> None:
        from tasnb.models.sam import MaskGenerator, build_sam, public_sam

        name = settings.proposal_network
        if is_elsewhere(name):
            sam = public_sam(name, settings.data)
        else:
            folder = checkpoint_folder(name, settings)
            with loading(name, "a checkpoint of Segment Anything"):
                sam = from_folder(folder, build_sam)
        sam = sam.eval().to(device())
        if settings.compile:
            compile_tower(sam.image_encoder)
        self.together = TOGETHER if device().type == "cuda" else 1
        generator = MaskGenerator(sam, together=self.together, **_grid_options(settings))
        super().__init__(sam, generator, settings)

    @in_one_thread
    def encode(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Encodes some images together, before the masks of each are proposed."""
        import torch

        with torch.inference_mode():
            self.generator.encode(images)


class MaskGeneration(_GridOfPoints):
    """Automatic masks of a mask-generation model of transformers."""

    def __init__(self, settings: Settings) -> None:
        from transformers import AutoImageProcessor, AutoModelForMaskGeneration
        from transformers.utils import logging

        from tasnb.models.sam_in_transformers import PointMasks

        logging.disable_progress_bar()
        name = settings.proposal_network
        source = model_source(name, settings)
        instead = "a folder, or a mask-generation model of the hub, which needs network access"
        with loading(name, instead):
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
            model, info = AutoModelForMaskGeneration.from_pretrained(
                source,
                dtype="float32",
                weights_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            if info["missing_keys"]:  # they would stay random, with just a warning
                raise ValueError(f"weight {min(info['missing_keys'])} is missing")
        model = model.eval().to(device())
        super().__init__(model, PointMasks(model, processor, **_grid_options(settings)), settings)


class FreeSoloProposals:
    """FreeSOLO, from its authors' file or the embedded checkpoint.

    Its scores are used as predicted IoUs.
    """

    def __init__(self, settings: Settings) -> None:
        from tasnb.models.freesolo import FreeSolo, from_public

        name = settings.proposal_network
        where = Path(model_source(name, settings))
        with loading(name, "FreeSOLO_R101_30k_pl.pth: `python -m tasnb fetch freesolo`"):
            if is_elsewhere(name):
                model = from_public(load_weights(where))
            else:
                model = from_folder(where, FreeSolo)
        self.model = model.to(device())

    @in_one_thread
    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        masks, scores = self.model.masks(image)
        return masks, to_numpy(scores.double()), np.full(len(masks), np.nan)


class FastSam:
    """FastSAM by ultralytics, an optional package because of its licence (AGPL-3.0)."""

    SIDE, CONFIDENCE, IOU = 1024, 0.4, 0.9  # its authors' values for segmenting everything

    def __init__(self, settings: Settings) -> None:
        name = settings.proposal_network
        if not find_spec("ultralytics"):
            raise InputError(
                f"{name} needs ultralytics (licence AGPL-3.0); `pip install ultralytics`"
            )
        from ultralytics import FastSAM

        weights = name.partition(":")[2]
        path = ROOT / Path(weights).expanduser()
        errors = (*DAMAGED, TypeError, AttributeError)
        with loading(name, "the path of FastSAM-x.pt or FastSAM-s.pt", errors):
            self.model = FastSAM(
                str(path) if path.exists() else f"{weights.removesuffix('.pt')}.pt"
            )

    @in_one_thread
    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        found = self.model(
            np.ascontiguousarray(image[..., ::-1]),  # it expects BGR arrays
            imgsz=self.SIDE,
            conf=self.CONFIDENCE,
            iou=self.IOU,
            retina_masks=True,
            verbose=False,
        )[0]
        if found.masks is None:
            return np.zeros((0, *image.shape[:2]), bool), np.zeros(0), np.zeros(0)
        masks = found.masks.data.cpu().numpy() > 0
        some = masks.any((1, 2))
        scores = found.boxes.conf.double().cpu().numpy()
        return masks[some], scores[some], np.full(some.sum(), np.nan)


class Felzenszwalb:
    """Felzenszwalb and Huttenlocher's graph-based segmentation; regions at all scales are masks.

    It groups pixels of similar colour and has no notion of objects, which makes it a baseline
    without learning. It predicts no IoU; the value is 1 for all regions.
    """

    SCALES = (100, 300, 1000)  # larger values give fewer regions
    SIGMA = 0.8  # of the initial smoothing, pixels
    LEAST = 0.004  # minimum share of a region in the image

    def __init__(self, settings: Settings) -> None:
        pass

    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        from skimage.segmentation import felzenszwalb

        least = int(self.LEAST * image.shape[0] * image.shape[1])
        found: dict[bytes, RunLengths] = {}  # without duplicates
        for scale in self.SCALES:
            labels = felzenszwalb(image, scale=scale, sigma=self.SIGMA, min_size=least)
            regions = run_lengths(labels == label for label in range(labels.max() + 1))
            found |= {region["counts"]: region for region in regions}
        return list(found.values()), np.ones(len(found)), np.full(len(found), np.nan)


class MasksFromFile:
    """Precomputed masks: a JSON list in COCO's results format.

    Each row has image_id, segmentation (run lengths with size and counts, or polygons) and
    optionally score. The id of an image is the number at the end of its file name, as in
    COCO_train2014_000000581857.jpg.
    """

    def __init__(self, settings: Settings) -> None:
        path = ROOT / Path(settings.proposal_network.partition(":")[2]).expanduser()
        self.path = path
        self.rows: dict[int, list[tuple[Any, float]]] = {}
        try:
            for row in json.loads(path.read_bytes()):
                kept = (row["segmentation"], float(row.get("score", 1.0)))
                self.rows.setdefault(int(row["image_id"]), []).append(kept)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path} is not a list of COCO results ({type(error).__name__}: {error}): each row "
                "needs image_id and segmentation with size and counts"
            ) from None

    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        number = re.search(r"\d+$", re.sub(r"-[0-9a-f]{12}$", "", key))  # without the digest
        rows = self.rows.get(int(number[0]), []) if number else []
        height, width = image.shape[:2]
        owner = f"{self.path}: a mask of image {key}"
        rles = [read_mask(segmentation, height, width, owner) for segmentation, _ in rows]
        masks = run_lengths(coco_mask.decode(rle) for rle in rles)  # in a canonical encoding
        some = [(m, row[1]) for m, row in zip(masks, rows, strict=True) if coco_mask.area(m)]
        scores = np.array([score for _, score in some], float)
        return [mask for mask, _ in some], scores, np.full(len(some), np.nan)


PROPOSAL_NETWORKS: dict[str, Callable[[Settings], ProposalNetwork]] = {
    "sam": SamProposals,
    "hf": MaskGeneration,
    "freesolo": FreeSoloProposals,
    "fastsam": FastSam,
    "felzenszwalb": Felzenszwalb,
    "file": MasksFromFile,
}


TITLES = {
    "sam": "SAM", "freesolo": "FreeSOLO", "fastsam": "FastSAM", "felzenszwalb": "Felzenszwalb",
}  # fmt: skip


def title(model: str) -> str:
    """The name of a network in tables: "SAM", or its name without library and owner."""
    return TITLES.get(model.partition(":")[0]) or Path(model.partition(":")[2]).name


FIELDS = (
    *("points_per_side", "pred_iou_thresh", "stability_score_thresh"),
    *("min_mask_region_area", "areas_of"),
)
"""The settings on which the masks of a network depend, besides its name."""


VERSIONS = {"hf": 2}
"""Kind -> version of its computation, part of the masks' fingerprint; 1 if it is not listed. In
version 1 of hf, the pipeline of transformers placed the points, for SAM 2 and EdgeTAM only on the
upper or left part of images that are not square, and small holes and islands stayed."""


def version_of(name: str) -> int:
    """The version in ``VERSIONS`` of a network such as ``"hf:facebook/sam2.1-hiera-large"``."""
    return VERSIONS.get(name.partition(":")[0], 1)


def load_proposal_network(settings: Settings) -> ProposalNetwork:
    """The network named by ``settings.proposal_network``, as ``kind:checkpoint`` or ``kind``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    build = registered("proposal network", settings.proposal_network, PROPOSAL_NETWORKS)
    read = settings.only("proposal_network", "data", "batch_size", "compile", *FIELDS)
    return resident_model(settings.proposal_network, read, lambda: build(read))
