"""aRefCOCO's layout, and CRIS's, which RefCOCOm has, as datasets of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_dataset import BIRD, CAT, DOG, HEIGHT, REFERENCES, SEGMENTATIONS, WIDTH, ref
from PIL import Image

from tasnb.datasets.splits import check_complete, check_there, columns, load_split
from tasnb.settings import InputError, Settings, make_settings

SEGMENTS = {7: CAT, 8: DOG, 9: BIRD}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(folder / f"{name}.png")


def settings_of(folder: Path) -> Settings:
    return make_settings(datasets=[str(folder)])


# --- aRefCOCO


def described(entity: int, ref_id: int, texts: list[str], original: str, split: str) -> dict:
    return {"entity_id": entity, "ref_id": ref_id, "descriptions": texts,
            "original_dataset": original, "split": split}  # fmt: skip


ANNOTATIONS = [
    described(100, 1, ["it is closer to the dog", "the one that sleeps"], "refcoco", "test"),
    described(101, 1, ["the taller one"], "refcocog", "test"),
    described(102, 4, ["the one that sings"], "refcoco", "train"),
]


@pytest.fixture
def ambiguous(tmp_path: Path) -> Path:
    """arefcoco/, next to refcoco/, refcocog/ and train2014/; both have a ref 1."""
    images = [{"id": i, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
              for i, name in ((4, "c"), (5, "a"), (6, "b"))]  # fmt: skip
    instances = {
        "images": images,
        "categories": [{"id": 3, "name": "thing"}],
        "annotations": [{"id": i, "segmentation": s} for i, s in SEGMENTATIONS.items()],
    }
    for name in ("refcoco", "refcocog"):
        write(tmp_path / name / "instances.json", instances)
    write(tmp_path / "refcoco" / "refs(unc).json", REFERENCES)
    others = [ref(1, 4, "train", ["dog"], ann_id=12)]
    write(tmp_path / "refcocog" / "refs(umd).json", others)
    pictures(tmp_path / "train2014")
    write(tmp_path / "arefcoco" / "arefcoco.json", {"info": {}, "annotations": ANNOTATIONS})
    return tmp_path / "arefcoco"


def test_arefcoco(ambiguous: Path) -> None:
    settings = settings_of(ambiguous)
    assert columns(settings) == [(str(ambiguous), "test")]  # not train, unless asked for
    split = load_split(settings, str(ambiguous), "test")
    found = split.sentences.sort_values("sent_id", ignore_index=True)
    assert found["sentence"].tolist() == [
        "it is closer to the dog", "the one that sleeps", "the taller one"
    ]  # fmt: skip
    assert found["ref_id"].tolist() == [100, 100, 101]
    assert found["target"].tolist() == ["thing"] * 3 and found["objects"].tolist() == [1] * 3
    for row, sentence in enumerate(split.sentences["sentence"]):
        wanted = DOG if sentence == "the taller one" else CAT
        np.testing.assert_array_equal(split.ground_truth(row), wanted)
    assert len(load_split(settings, str(ambiguous), "train").sentences) == 1
    check_complete(settings, str(ambiguous), "test")
    check_there(settings)


def test_the_originals_in_its_own_folder(ambiguous: Path) -> None:
    before = load_split(settings_of(ambiguous), str(ambiguous), "test").sentences
    for name in ("refcoco", "refcocog", "train2014"):
        (ambiguous.parent / name).rename(ambiguous / name)
    after = load_split(settings_of(ambiguous), str(ambiguous), "test").sentences
    names = ["sentence", "ref_id", "ground_truth"]
    assert before[names].equals(after[names])


def without(name: str) -> Callable[[dict], object]:
    return lambda one: one.pop(name)


FAULTS = {
    "no such ref": (lambda a: a.update(ref_id=77), r"annotation 100 refers to ref 77, which"),
    "no ref": (without("ref_id"), r"annotation 100 has no ref_id"),
    "a list as ref": (lambda a: a.update(ref_id=[1]), r"refers to ref \[1\], which is not among"),
    "another dataset": (
        lambda a: a.update(original_dataset="refcoco+"),
        r"original_dataset 'refcoco\+', which should be one of refcoco, refcocog",
    ),
    "text for a list": (
        lambda a: a.update(descriptions="the cat"),
        r"annotation 100 has descriptions that are not a list: 'the cat'",
    ),
    "a blank text": (lambda a: a.update(descriptions=[" "]), r"annotation 100: 1 is blank"),
    "an entity twice": (lambda a: a.update(entity_id=101), r"two annotations have entity_id 101"),
    "no split": (without("split"), r"arefcoco.json contains an annotation without a valid split"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_arefcoco(ambiguous: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    content = json.loads((ambiguous / "arefcoco.json").read_text())
    damage(content["annotations"][0])
    write(ambiguous / "arefcoco.json", content)
    with pytest.raises(InputError, match=message) as caught:
        load_split(settings_of(ambiguous), str(ambiguous), "test")
    assert "\n" not in str(caught.value)


def test_arefcoco_without_its_originals(ambiguous: Path) -> None:
    (ambiguous.parent / "refcocog" / "instances.json").unlink()
    with pytest.raises(InputError, match=r"refers to refcocog, which is neither in .* nor in "):
        load_split(settings_of(ambiguous), str(ambiguous), "test")


def test_arefcoco_of_another_form(ambiguous: Path) -> None:
    write(ambiguous / "arefcoco.json", ANNOTATIONS)
    with pytest.raises(InputError, match=r"arefcoco.json has no list 'annotations' of objects"):
        columns(settings_of(ambiguous))


# --- CRIS's layout (RefCOCOm)


def segment(key: int, picture: str, texts: list[str], **fields: object) -> dict:
    said = [{"idx": i, "sent_id": i, "sent": text} for i, text in enumerate(texts)]
    return {"bbox": [0, 0, 1, 1], "cat": 0, "segment_id": key, "img_name": f"{picture}.png",
            "sentences": said, "sentences_num": len(said), **fields}  # fmt: skip


PARTS = {
    "val": [segment(7, "a", ["the cat", "the head of the cat"]), segment(8, "b", ["its tail"])],
    "testA": [segment(9, "c", ["wing"], cat="bird wing")],
}


def in_folder(root: Path) -> tuple[Path, Path, Path]:
    return root / "refcocom", root / "refcocom" / "masks", root / "refcocom" / "images"


def as_cris(root: Path) -> tuple[Path, Path, Path]:
    data = root / "datasets"
    return data / "anns" / "refcocom", data / "masks" / "refcocom", data / "images" / "train2014"


@pytest.fixture(params=[in_folder, as_cris])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A folder in CRIS's layout, and the one of its masks."""
    folder, masks, images = request.param(tmp_path)
    for name, refs in PARTS.items():
        write(folder / f"{name}.json", refs)
    masks.mkdir(parents=True, exist_ok=True)
    for key, mask in SEGMENTS.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / f"{key}.png")
    pictures(images)
    return folder, masks


def test_masks_as_pictures(parts: tuple[Path, Path]) -> None:
    folder, _ = parts
    settings = settings_of(folder)
    assert columns(settings) == [(str(folder), "testA"), (str(folder), "val")]
    split = load_split(settings, str(folder), "val")
    assert split.sentences["sentence"].tolist() == ["the cat", "the head of the cat", "its tail"]
    assert split.sentences["target"].tolist() == [""] * 3
    for row, mask in enumerate((CAT, CAT, DOG)):
        np.testing.assert_array_equal(split.ground_truth(row), mask)
    other = load_split(settings, str(folder), "testA").sentences
    assert other["names"].tolist() == [("bird wing",)]
    check_complete(settings, str(folder), "val")
    check_there(settings)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_mask_pictures(parts: tuple[Path, Path], mode: str) -> None:
    folder, masks = parts
    plain = Image.fromarray(CAT.astype(np.uint8))  # 0 and 1
    if mode == "I;16":
        picture = Image.fromarray(CAT.astype(np.uint16))
    elif mode == "P":
        picture = plain.copy()
        picture.putpalette([0, 0, 0] * 256)  # the number counts, not its colour
    else:
        picture = Image.fromarray(CAT.astype(np.uint8) * 255).convert(mode)
    picture.save(masks / "7.png")
    split = load_split(settings_of(folder), str(folder), "val")
    np.testing.assert_array_equal(split.ground_truth(0), CAT)


def test_a_changed_mask_is_read_again(parts: tuple[Path, Path]) -> None:
    folder, masks = parts
    load_split(settings_of(folder), str(folder), "val")
    Image.fromarray(BIRD.astype(np.uint8) * 200).save(masks / "7.png")
    split = load_split(settings_of(folder), str(folder), "val")
    np.testing.assert_array_equal(split.ground_truth(0), BIRD)


BAD_REFS = {
    "not a list": (lambda refs: {"refs": refs}, r"val.json is not a list of refs with segment_id"),
    "no id": (lambda refs: [{"img_name": "a.png"}], r"val.json: a ref has no segment_id"),
    "a path as id": (
        lambda refs: [{**refs[0], "segment_id": "../7"}],
        r"ref '../7' has a segment_id that is not the name of a file",
    ),
    "the same id": (lambda refs: [refs[0], refs[0]], r"two refs have segment_id 7"),
    "no name": (lambda refs: [{**refs[0], "img_name": 5}], r"unusable img_name: 5"),
    "a blank text": (
        lambda refs: [{**refs[0], "sentences": [{"sent": ""}]}],
        r"ref 7: sentence 1 is blank",
    ),
    "texts only": (
        lambda refs: [{**refs[0], "sentences": ["the cat"]}],
        r"ref 7: sentence 1 is not an object: 'the cat'",
    ),
    "no such mask": (
        lambda refs: [{**refs[0], "segment_id": 70}],
        r"70.png, the mask of ref 70 in .*val.json, is missing",
    ),
}


@pytest.mark.parametrize("fault", BAD_REFS)
def test_faults_of_refs_with_mask_pictures(parts: tuple[Path, Path], fault: str) -> None:
    change, message = BAD_REFS[fault]
    folder, _ = parts
    write(folder / "val.json", change(PARTS["val"]))
    with pytest.raises(InputError, match=message) as caught:
        load_split(settings_of(folder), str(folder), "val")
    assert "\n" not in str(caught.value)


def test_faults_of_mask_pictures(parts: tuple[Path, Path]) -> None:
    folder, masks = parts
    write(folder / "val.json", [*PARTS["val"], segment(9, "a", ["bird"])])
    Image.new("L", (WIDTH + 1, HEIGHT), 255).save(masks / "9.png")
    with pytest.raises(InputError, match=r"9.png is 13 x 10 pixels, but its image a.png is 12 x"):
        load_split(settings_of(folder), str(folder), "val")
    (masks / "9.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"9.png is not a picture of a mask"):
        load_split(settings_of(folder), str(folder), "val")


def test_a_folder_in_no_layout(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "val.json", PARTS["val"])
    with pytest.raises(InputError, match=r"is not a dataset: .*instances.json does not exist"):
        settings_of(tmp_path / "mine")
    (tmp_path / "mine" / "val.json").rename(tmp_path / "mine" / "val.txt")
    (tmp_path / "mine" / "masks").mkdir()
    with pytest.raises(InputError, match=r"nor any other layout that data/README.md describes"):
        columns(settings_of(tmp_path / "mine"))
