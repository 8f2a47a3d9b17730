"""Every kind of proposal network that can be named in the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tasnb import Pipeline
from tasnb.datasets.images import load_image
from tasnb.drawing import figures
from tasnb.method.proposals import decode, propose
from tasnb.models.proposal_networks import FastSam, load_proposal_network, title
from tasnb.results import analysis, picks
from tasnb.settings import InputError, make_settings

HEIGHT, WIDTH = 48, 64


def picture() -> np.ndarray:
    """A red and a green box on blue, with a little noise."""
    image = np.full((HEIGHT, WIDTH, 3), (40, 60, 200), np.uint8)
    image[8:28, 6:30] = (220, 30, 30)
    image[20:44, 38:60] = (30, 200, 60)
    noise = np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)
    return image + noise


def boxes() -> list[np.ndarray]:
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 8:28, 6:30] = masks[1, 20:44, 38:60] = True
    return list(masks)


def test_an_unknown_kind() -> None:
    with pytest.raises(InputError, match="unknown kind of proposal network 'sma': did you mean"):
        load_proposal_network(make_settings(proposal_network="sma:embedded/sam"))


def test_felzenszwalb_finds_regions_of_one_colour() -> None:
    network = load_proposal_network(make_settings(proposal_network="felzenszwalb"))
    frame = propose(picture(), network)
    masks = decode(frame)
    assert len(np.unique(masks.reshape(len(masks), -1), axis=0)) == len(masks)
    for box in boxes():
        ious = (masks & box).sum((1, 2)) / (masks | box).sum((1, 2))
        assert ious.max() > 0.8  # smoothing blurs the edges
    assert (frame["predicted_iou"] == 1).all() and frame["stability"].isna().all()


# --- masks from a file


def results(path: Path, rows: list[dict]) -> str:
    path.write_text(json.dumps(rows))
    return f"file:{path}"


def compressed(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def as_list(mask: np.ndarray) -> dict:
    """Uncompressed run lengths, zeros first, in column order."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [-1]])
    ends = np.flatnonzero(np.diff(flat)) if not mask.T.ravel()[0] else None
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def test_masks_from_a_file(tmp_path: Path) -> None:
    one, two = boxes()
    name = results(
        tmp_path / "masks.json",
        [
            {"image_id": 581857, "segmentation": compressed(one), "score": 0.75},
            {"image_id": 581857, "segmentation": as_list(two)},
            {"image_id": 2, "segmentation": compressed(two), "category_id": 1},
        ],
    )
    network = load_proposal_network(make_settings(proposal_network=name))
    frame = propose(picture(), network, "COCO_train2014_000000581857-0123456789ab")
    np.testing.assert_array_equal(decode(frame), [one, two])
    assert frame["predicted_iou"].tolist() == [0.75, 1.0]
    assert len(network.propose(picture(), "000002-0123456789ab")[0]) == 1
    for key in ("000003-0123456789ab", "", "mine-0123456789ab"):
        assert propose(picture(), network, key).empty


def test_bad_files_of_masks(tmp_path: Path) -> None:
    def message(name: str) -> str:
        with pytest.raises(InputError) as error:
            load_proposal_network(make_settings(proposal_network=name))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "cannot read" in message(f"file:{tmp_path / 'none.json'}")
    (tmp_path / "cut.json").write_text('[{"image_id": 1, ')
    assert "is not a list of COCO results" in message(f"file:{tmp_path / 'cut.json'}")
    assert "needs image_id" in message(results(tmp_path / "a.json", [{"image_id": 1}]))
    small = results(
        tmp_path / "b.json",
        [{"image_id": 1, "segmentation": compressed(np.ones((4, 4), bool))}],
    )
    network = load_proposal_network(make_settings(proposal_network=small))
    with pytest.raises(InputError, match=r"size \[4, 4\], but its image is \[48, 64\]"):
        network.propose(picture(), "000001-0123456789ab")


def test_a_run_on_masks_of_a_file(tmp_path: Path) -> None:
    """With the ground truth as proposals, the best one is perfect; another file is recomputed."""
    base = {"limit": 2, "store": str(tmp_path / "store"), "out": str(tmp_path)}
    split = Pipeline(make_settings(**base)).split("refscenes", "val")
    rows = []
    for row in range(len(split.sentences)):
        number = int(split.sentences["image"][row].partition("-")[0])
        rows.append({"image_id": number, "segmentation": compressed(split.ground_truth(row))})
    name = results(tmp_path / "truth.json", rows)
    kept = {"proposal_network": name, "subset_overlap": 1.0, "min_mask_area": 0.0}
    masks = Pipeline(make_settings(**base, **kept)).proposals(split.images)
    assert masks["kept"].any()
    best = [
        max(
            (m & split.ground_truth(r)).sum() / (m | split.ground_truth(r)).sum()
            for m in decode(masks[masks["image"] == split.sentences["image"][r]])
        )
        for r in range(len(split.sentences))
    ]
    assert best == [1.0] * len(best)
    results(tmp_path / "truth.json", rows[:1])
    again = Pipeline(make_settings(**base, **kept)).proposals(split.images)
    assert len(again) == 1


def test_networks_side_by_side(tmp_path: Path) -> None:
    """All of the ground truth against the ground truth of one sentence."""
    base = {"limit": 3, "store": str(tmp_path / "store"), "out": str(tmp_path)}
    kept = {"subset_overlap": 1.0, "min_mask_area": 0.0}
    pipeline = Pipeline(make_settings(**base, **kept))
    split = pipeline.split("refscenes", "val")
    rows = [
        {
            "image_id": int(split.sentences["image"][row].partition("-")[0]),
            "segmentation": compressed(split.ground_truth(row)),
        }
        for row in range(len(split.sentences))
    ]
    names = {
        "all": results(tmp_path / "all.json", rows),
        "one": results(tmp_path / "one.json", rows[:1]),
    }
    table = analysis.networks(pipeline, names, "refscenes", "val").set_index(
        ["network", "proposals"]
    )
    assert (table.loc["all", "best IoU (%)"] == 100).all()
    same = [row["segmentation"] == rows[0]["segmentation"] for row in rows]
    assert table.loc[("one", "all"), "best IoU (%)"] == pytest.approx(100 * np.mean(same), abs=8)
    assert table.loc[("one", "all"), "masks per image"] == pytest.approx(1 / 3)
    found = picks.pick_bested(pipeline, names, "refscenes", "val", 4)
    assert len({one.image.tobytes() for one in found}) == len(found) == 3
    for one in found:
        np.testing.assert_array_equal(one.best["all"], one.truth)
    first = found[-1]  # where the second network is closest: on the image it has masks for
    np.testing.assert_array_equal(first.best["one"], first.truth)
    figures.networks(found)


# --- Segment Anything from its authors' files


def test_sam_from_its_authors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for one of the architectures, here a small one under a known name."""
    import segment_anything
    import torch

    from tasnb.models.sam import build_sam

    folder = make_settings().data / "embedded" / "checkpoints" / "sam"
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", lambda: build_sam(config))
    torch.manual_seed(0)
    saved = build_sam(config)
    torch.save(saved.state_dict(), tmp_path / "weights.pth")
    name = f"sam:vit_b/{tmp_path / 'weights.pth'}"
    settings = make_settings(
        proposal_network=name, points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0
    )
    network = load_proposal_network(settings)
    own = network.generator.predictor.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in saved.state_dict().items())
    masks, scores, _ = network.propose(picture(), "")
    assert len(masks) == len(scores) > 0
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=f"cannot load {name}.*sam_vit_b_01ec64.pth"):
        load_proposal_network(settings)


def test_sam_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run offline: the error says where to put the file."""
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    settings = make_settings(proposal_network="sam:vit_h", data=str(tmp_path))
    place = re.escape(str(tmp_path / "checkpoints" / "sam_vit_h_4b8939.pth"))
    with pytest.raises(InputError, match=rf"HF_HUB_OFFLINE is set.* sam-vit-h at {place}"):
        load_proposal_network(settings)
    assert not list(tmp_path.iterdir())  # no partial download
    with pytest.raises(InputError, match="unknown model of Segment Anything 'vit_x'"):
        load_proposal_network(make_settings(proposal_network="sam:vit_x"))


@pytest.mark.parametrize("folder", ["checkpoints", "hub/checkpoints"])
def test_sam_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """In the data folder or that of torch.hub; a small network replaces ViT-B."""
    import segment_anything
    import torch

    from tasnb.fetch import sources
    from tasnb.models.sam import build_sam

    small = make_settings().data / "embedded" / "checkpoints" / "sam" / "config.json"
    config = json.loads(small.read_text())
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", lambda: build_sam(config))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    place = tmp_path / folder / "sam_vit_b_01ec64.pth"
    place.parent.mkdir(parents=True)
    torch.manual_seed(0)
    saved = build_sam(config).state_dict()
    torch.save(saved, place)
    known = sources.load_sources()
    file = known.select(["sam-vit-b"])[0].files[0].model_copy(update={"bytes": None})
    item = sources.Item(name="sam-vit-b", what="A small one.", files=(file,))
    monkeypatch.setattr("tasnb.fetch.load_sources", lambda: sources.Sources(items=(item,)))
    settings = make_settings(proposal_network="sam:vit_b", data=str(tmp_path))
    own = load_proposal_network(settings).generator.predictor.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in saved.items())


def small_regions(mask: np.ndarray, least: float) -> int:
    """Holes and islands with fewer pixels than this, 8-connected as in SAM's code."""
    import cv2

    found = 0
    for part in (mask, ~mask):
        _, _, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        only = part is mask and len(areas) == 1  # a small mask is not an island
        found += 0 if only else int((areas < least).sum())
    return found


@pytest.mark.slow
def test_holes_and_islands_go_in_proportion_to_the_image() -> None:
    """800 pixels of 640 x 480 are 200 pixels of an embedded image; 0 keeps all of them."""
    paths = Pipeline(make_settings(limit=8)).split("refscenes", "val").images.values()
    images = [image for image in map(load_image, paths) if image.shape[:2] == (240, 320)]
    assert images
    count = {}
    for name, change in {
        "all stay": {"min_mask_region_area": 0.0},
        "as it is": {},
        "absolute": {"areas_of": None},
    }.items():
        network = load_proposal_network(make_settings(**change))
        masks = [mask for image in images for mask in decode(propose(image, network))]
        count[name] = [sum(small_regions(mask, least) for mask in masks) for least in (200, 800)]
    assert count["all stay"][0] > 0
    assert count["as it is"][0] == 0 < count["as it is"][1]
    assert count["absolute"] == [0, 0]


def test_proposals_are_stored_under_all_that_they_depend_on(tmp_path: Path) -> None:
    def fingerprint(**changes: object) -> str:
        return Pipeline(make_settings(store=str(tmp_path), **changes)).proposal_stage.fingerprint

    changes = ({"min_mask_region_area": 0.0}, {"areas_of": None}, {"points_per_side": 4})
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 4
    assert fingerprint(alpha=0.5) == fingerprint(min_mask_area=9.0) == fingerprint()


# --- FastSAM


def test_fastsam_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasnb.models import proposal_networks

    monkeypatch.setattr(proposal_networks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"FastSAM-s needs ultralytics .*pip install ultra"):
        load_proposal_network(make_settings(proposal_network="fastsam:FastSAM-s"))


def test_fastsam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random network of the real class in size S, if the optional package is installed."""
    ultralytics = pytest.importorskip("ultralytics")
    path = tmp_path / "FastSAM-s.pt"
    ultralytics.YOLO("yolov8s-seg.yaml").save(path)
    monkeypatch.setattr(FastSam, "CONFIDENCE", 0.0)  # random weights have low confidence
    settings = make_settings(proposal_network=f"fastsam:{path}")
    masks, scores, stability = load_proposal_network(settings).propose(picture(), "")
    assert masks.shape[1:] == (HEIGHT, WIDTH) and masks.dtype == bool
    assert len(masks) == len(scores) == len(stability) > 0


# --- names


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot load hf:nobody/nothing"):
        load_proposal_network(make_settings(proposal_network="hf:nobody/nothing"))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("sam:embedded/sam", "SAM"),
        ("sam:vit_b", "SAM"),
        ("felzenszwalb", "Felzenszwalb"),
        ("hf:facebook/sam2.1-hiera-tiny", "sam2.1-hiera-tiny"),
        ("file:/data/masks.json", "masks.json"),
    ],
)
def test_what_tables_call_a_network(model: str, expected: str) -> None:
    assert title(model) == expected
