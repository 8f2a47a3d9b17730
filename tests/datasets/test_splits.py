"""The REFER layout and PhraseCut, made by hand in a temporary folder."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.datasets.images import image_key
from tasnb.datasets.refer import read_pickle
from tasnb.datasets.splits import ablated, check_complete, check_there, columns, load_split
from tasnb.profiles import DATASETS
from tasnb.settings import InputError, Settings, make_settings

HEIGHT, WIDTH = 10, 12


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


CAT, DOG, BIRD = box(1, 2, 4, 7), box(0, 0, 3, 2), box(6, 8, 10, 12)
COMPRESSED = coco_mask.encode(np.asfortranarray(BIRD.astype(np.uint8)))["counts"].decode()
SEGMENTATIONS = {
    11: [[2, 1, 7, 1, 7, 4, 2, 4]],  # a polygon: columns 2 to 6 and rows 1 to 3
    12: {"size": [HEIGHT, WIDTH], "counts": [0, 3, 7, 3, 107]},  # runs down the columns
    13: {"size": [HEIGHT, WIDTH], "counts": COMPRESSED},
}
MASKS = {11: CAT, 12: DOG, 13: BIRD}


def ref(ref_id: int, image_id: int, split: str, sentences: list[str], **ids: Any) -> dict:
    texts = [
        {"sent_id": 10 * ref_id + i, "sent": text, "raw": text.upper(), "tokens": text.split()}
        for i, text in enumerate(sentences)
    ]
    return {"ref_id": ref_id, "image_id": image_id, "split": split, "category_id": 3,
            "sentences": texts, **ids}  # fmt: skip


REFERENCES = [
    ref(1, 5, "val", ["left cat", "the cat"], ann_id=11),
    ref(2, 4, "testA", ["dog"], ann_id=12),
    ref(3, 4, "val", ["dog"], ann_id=12),
    ref(4, 5, "val", ["bird"], ann_id=13),
    ref(5, 6, "val", ["cat and bird"], ann_id=11, ann_ids=[11, 13]),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data are three images and five refs."""
    root = tmp_path / "embedded"
    (root / "images").mkdir(parents=True)
    (root / "refscenes").mkdir()
    images = []
    for number, name in ((4, "c"), (5, "a"), (6, "b")):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(root / "images" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
    instances = {
        "images": images,
        "categories": [{"id": 3, "name": "thing"}],
        "annotations": [{"id": i, "segmentation": s} for i, s in SEGMENTATIONS.items()],
    }
    (root / "refscenes" / "instances.json").write_text(json.dumps(instances))
    (root / "refscenes" / "refs(unc).json").write_text(json.dumps(REFERENCES))
    return make_settings(data=str(tmp_path))


def test_a_split(settings: Settings) -> None:
    """Sentences by image, in the order of the refs; the split's only; `sent`, not `raw`."""
    split = load_split(settings, "refscenes", "val")
    frame = split.sentences
    assert [key.split("-")[0] for key in split.images] == ["a", "b", "c"]
    assert all(key == image_key(path) for key, path in split.images.items())
    assert frame["sentence"].tolist() == ["left cat", "the cat", "bird", "cat and bird", "dog"]
    assert frame["sent_id"].tolist() == [10, 11, 40, 50, 30]
    assert frame["ref_id"].tolist() == [1, 1, 4, 5, 3]
    assert [image.split("-")[0] for image in frame["image"]] == ["a", "a", "a", "b", "c"]
    assert set(frame["target"]) == {"thing"}
    assert load_split(settings, "refscenes", "testA").sentences["ref_id"].tolist() == [2]


def test_three_ways_to_write_a_mask_and_a_union_of_two(settings: Settings) -> None:
    split = load_split(settings, "refscenes", "val")
    for row, truth in enumerate([CAT, CAT, BIRD, CAT | BIRD, DOG]):
        np.testing.assert_array_equal(split.ground_truth(row), truth)
        assert split.sentences["truth_area"][row] == truth.sum()


@pytest.mark.parametrize(
    ("limit", "images", "sentences"), [(1, "a", 3), (2, "ac", 4), (3, "abc", 5), (9, "abc", 5)]
)
def test_the_limit_takes_the_first_images(
    settings: Settings, limit: int, images: str, sentences: int
) -> None:
    limited = settings.model_copy(update={"limit": limit})
    split = load_split(limited, "refscenes", "val")
    assert "".join(key[0] for key in split.images) == images
    assert len(split.sentences) == sentences


def test_the_key_of_an_image_changes_with_its_content(settings: Settings, tmp_path: Path) -> None:
    one, other = tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"
    for path, colour in ((one, "red"), (other, "blue")):
        path.parent.mkdir()
        Image.new("RGB", (2, 2), colour).save(path)
    assert image_key(one).startswith("a-") and image_key(one) != image_key(other)
    with pytest.raises(InputError, match=r"cannot read .*none\.png"):
        image_key(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("refscene", "val", "unknown dataset 'refscene': did you mean 'refscenes'"),
        ("refscenes", "testC", "unknown split of RefScenes 'testC': did you mean 'test"),
        ("refscenes", "testB", "RefScenes testB holds no sentences; restore it with `git"),
        ("refscenesg", "val(U)", "refscenesg/refs(umd).json is missing; restore it with `git"),
    ],
)
def test_unknown_and_missing(settings: Settings, dataset: str, split: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_split(settings, dataset, split)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["instances.json", "refs(unc).json"])
def test_missing_or_broken_json(settings: Settings, name: str) -> None:
    path = settings.data / "embedded" / "refscenes" / name
    whole = path.read_text()
    path.unlink()
    with pytest.raises(InputError, match="is missing; restore it"):
        load_split(settings, "refscenes", "val")
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"is not JSON \(.*\); restore it") as error:
        load_split(settings, "refscenes", "val")
    assert "\n" not in str(error.value)
    path.write_text(whole)
    assert len(load_split(settings, "refscenes", "val").sentences) == 5


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b'{"images": 3}', b"\xff\xfe"])
def test_json_of_another_shape(settings: Settings, content: bytes) -> None:
    (settings.data / "embedded" / "refscenes" / "instances.json").write_bytes(content)
    with pytest.raises(InputError):
        load_split(settings, "refscenes", "val")


# --- refs as they are published


def as_python_2(value: Any) -> bytes:
    """The opcodes with which Python 2 wrote plain data: its str is bytes."""
    if isinstance(value, dict):
        return b"(" + b"".join(as_python_2(x) for pair in value.items() for x in pair) + b"d"
    if isinstance(value, list):
        return b"(" + b"".join(map(as_python_2, value)) + b"l"
    if isinstance(value, str):
        text = value.encode()
        return b"U" + bytes([len(text)]) + text
    return f"I{value}\n".encode() if value % 2 else f"L{value}L\n".encode()


def pickled(settings: Settings, content: bytes) -> Path:
    """The refs of the fixture's split as a pickle instead of JSON."""
    folder = settings.data / "embedded" / "refscenes"
    (folder / "refs(unc).json").unlink(missing_ok=True)
    (folder / "refs(unc).p").write_bytes(content)
    return folder / "refs(unc).p"


@pytest.mark.parametrize("version", ["2", "0", "3", "5"])
def test_refs_of_a_pickle(settings: Settings, version: str) -> None:
    expected = load_split(settings, "refscenes", "val").sentences
    written = as_python_2(REFERENCES) + b"."
    content = written if version == "2" else pickle.dumps(REFERENCES, int(version))
    pickled(settings, content)
    pd.testing.assert_frame_equal(load_split(settings, "refscenes", "val").sentences, expected)


def test_letters_beyond_ascii_in_a_pickle_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "a.p").write_bytes(as_python_2(["caf\u00e9"]) + b".")
    (tmp_path / "b.p").write_bytes(b"(U\x04caf\xe9l.")  # Latin-1
    assert read_pickle(tmp_path / "a.p") == ["caf\u00e9"]
    assert read_pickle(tmp_path / "b.p") == ["caf\ufffd"]


class Harm:
    """What a pickle runs when it is read by anybody who trusts it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_a_command(
    settings: Settings, tmp_path: Path, protocol: int
) -> None:
    trace = tmp_path / "trace"
    harm = Harm(f"touch {trace}")
    pickle.loads(pickle.dumps(harm, protocol))
    assert trace.exists()  # it is harm indeed
    trace.unlink()
    pickled(settings, pickle.dumps([*REFERENCES, {"ref_id": harm}], protocol))
    with pytest.raises(InputError, match=r"it would load \w+\.system\); it was not run"):
        load_split(settings, "refscenes", "val")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", pickle.dumps(REFERENCES)[:-40], b"cos\nsystem\n(S'true'\ntR.", b"}b.",
     pickle.dumps(REFERENCES).replace(b"sentences", b"sentenced")],
)  # fmt: skip
def test_a_pickle_that_is_damaged_or_of_another_shape(settings: Settings, content: bytes) -> None:
    pickled(settings, content)
    with pytest.raises(InputError) as error:
        load_split(settings, "refscenes", "val")
    assert "\n" not in str(error.value)


# --- the published datasets, and one's own


def published(root: Path, dataset: str, which: str, refs: list[dict]) -> Settings:
    """The fixture's data as a dataset that is published as a pickle."""
    (root / "images").mkdir(exist_ok=True)
    (root / "embedded" / "images").rename(root / "images" / "train2014")
    folder = root / dataset
    (root / "embedded" / "refscenes").rename(folder)
    (folder / "refs(unc).json").unlink()
    (folder / f"refs({which}).p").write_bytes(as_python_2(refs) + b".")
    return make_settings("paper", data=str(root))


def test_a_published_split_must_be_of_its_size(settings: Settings) -> None:
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    with pytest.raises(InputError) as error:
        load_split(paper, "refcoco", "val")
    message = str(error.value)
    assert "RefCOCO val in " in message and "has 4 refs, as published it has 3811: " in message
    assert "\n" not in message


def test_a_published_split_of_its_size(settings: Settings, monkeypatch) -> None:
    """The table's numbers replaced by those of the data, since only a clone has the real ones."""
    expected = load_split(settings, "refscenes", "val").sentences
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    sizes = {**DATASETS["refcoco"].sizes, "val": (4, 5, 3)}
    monkeypatch.setitem(DATASETS, "refcoco", DATASETS["refcoco"]._replace(sizes=sizes))
    pd.testing.assert_frame_equal(load_split(paper, "refcoco", "val").sentences, expected)
    limited = load_split(paper.model_copy(update={"limit": 1}), "refcoco", "val")
    assert len(limited.images) == 1  # the whole split is counted, whatever is read of it


def test_the_paper_s_test_g_is_google_s_val(settings: Settings, monkeypatch) -> None:
    paper = published(settings.data, "refcocog", "google", REFERENCES)
    monkeypatch.setitem(DATASETS, "refcocog", DATASETS["refcocog"]._replace(sizes={}))
    assert len(load_split(paper, "refcocog", "test(G)").sentences) == 5


def test_images_that_are_missing_are_said(settings: Settings, monkeypatch) -> None:
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    monkeypatch.setitem(DATASETS, "refcoco", DATASETS["refcoco"]._replace(sizes={}))
    (settings.data / "images" / "train2014").rename(settings.data / "elsewhere")
    with pytest.raises(InputError, match="train2014 is missing, the images of RefCOCO; `py"):
        load_split(paper, "refcoco", "val")


TASK = {
    "task_id": "7__1",
    "image_id": 7,
    "ann_ids": [1, 2],
    "instance_boxes": [[2, 1, 5, 3], [8, 5, 3, 3]],
    "Polygons": [
        [[[2.9, 1.2], [6.7, 1.9], [6.1, 3.8], [2.2, 3.1]]],
        [[[8.5, 5.5], [10.5, 5.5], [10.5, 7.5]], [[0.4, 9.9], [1.6, 9.2], [1.2, 8.0]]],
    ],
    "phrase": "wooden chairs",
    "phrase_structure": {"name": "chairs", "attributes": ["wooden"], "type": "attribute"},
}


def phrasecut(root: Path, tasks: list[dict]) -> Settings:
    (root / "phrasecut").mkdir()
    (root / "phrasecut" / "refer_test.json").write_text(json.dumps(tasks))
    (root / "images" / "visual_genome").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / "visual_genome" / "7.jpg")
    return make_settings("paper", data=str(root))


def test_phrasecut(tmp_path: Path, monkeypatch) -> None:
    """The union of all instances; corners cut to whole pixels, outlines drawn."""
    paper = phrasecut(tmp_path, [TASK])
    with pytest.raises(InputError, match="has 1 refs, as published it has 14354"):
        load_split(paper, "phrasecut", "test")
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    split = load_split(paper, "phrasecut", "test")
    row = split.sentences.iloc[0]
    assert (row["sentence"], row["target"], row["sent_id"]) == ("wooden chairs", "chairs", "7__1")
    expected = box(1, 2, 4, 7)  # columns 2 to 6 and rows 1 to 3, both ends drawn
    expected |= np.array(
        [[8 <= x <= 10 and 5 <= y <= 7 and x - 8 >= y - 5 for x in range(WIDTH)]
         for y in range(HEIGHT)]
    )  # fmt: skip
    expected[8, 1] = expected[9, 0] = expected[9, 1] = True
    np.testing.assert_array_equal(split.ground_truth(0), expected)


def test_phrasecut_of_another_shape(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    broken = {**TASK, "Polygons": [[[3, 4]]]}
    with pytest.raises(InputError) as error:
        load_split(phrasecut(tmp_path, [broken]), "phrasecut", "test")
    assert "\n" not in str(error.value)


def test_a_dataset_of_one_s_own(settings: Settings, tmp_path: Path) -> None:
    """A folder with instances.json, refs(anything) and images/; its splits are what it says."""
    expected = load_split(settings, "refscenes", "val").sentences
    folder = tmp_path / "my dog"  # ends in g, but is none of RefCOCOg's family
    (tmp_path / "embedded" / "refscenes").rename(folder)
    (tmp_path / "embedded" / "images").rename(folder / "images")
    (folder / "refs(unc).json").rename(folder / "refs(me).json")
    train = [ref(9, 4, "train", ["dog"], ann_id=12)]
    (folder / "refs(me).json").write_text(json.dumps(REFERENCES + train))
    mine = make_settings(datasets=[str(folder)], lam_g=0.2)
    assert columns(mine) == [(str(folder), "val"), (str(folder), "testA")]
    assert columns(mine.model_copy(update={"splits": ("train",)})) == [(str(folder), "train")]
    assert ablated(mine) == (str(folder), "val")
    assert mine.lambda_of(str(folder)) == mine.lam
    pd.testing.assert_frame_equal(load_split(mine, str(folder), "val").sentences, expected)
    with pytest.raises(InputError, match="unknown split 'test': did you mean 'testA'"):
        columns(make_settings(datasets=[str(folder)], splits=["test"]))
    (folder / "refs(me).json").write_text("[3]")
    with pytest.raises(InputError, match=r"refs\(me\) is no list of refs"):
        columns(make_settings(datasets=[str(folder)], splits=["val"]))


# --- what may be wrong in a dataset of one's own


BROKEN = {
    "annotation": (
        lambda refs, _: refs[0].update(ann_id=99),
        r"ref 1 names 99, which is none of the annotations in instances\.json",
    ),
    "image": (
        lambda refs, _: refs[0].update(image_id=99),
        r"a ref names 99, which is none of the images in instances\.json",
    ),
    "category": (
        lambda refs, _: refs[0].update(category_id=99),
        r"ref 1 names 99, which is none of the categories in instances\.json",
    ),
    "polygon": (
        lambda _, tables: tables["annotations"][0].update(segmentation=[[1, 2, 3]]),
        r"the segmentation of annotation 11 is neither polygons nor run lengths \(",
    ),
    "no polygon": (
        lambda _, tables: tables["annotations"][0].update(segmentation=[]),
        r"the segmentation of annotation 11 is neither",
    ),
    "null": (
        lambda _, tables: tables["annotations"][0].update(segmentation=None),
        r"the segmentation of annotation 11 is neither",
    ),
    "layout": (
        lambda refs, _: refs[0].pop("sentences"),
        r"is not in the REFER layout \(KeyError\('sentences'\)\); README\.md says",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named(settings: Settings, tmp_path: Path, what: str) -> None:
    damage, message = BROKEN[what]
    own = tmp_path / "own"
    (tmp_path / "embedded" / "refscenes").rename(own)
    (tmp_path / "embedded" / "images").rename(own / "images")
    files = [own / "refs(unc).json", own / "instances.json"]
    refs, tables = (json.loads(file.read_text()) for file in files)
    damage(refs, tables)
    for file, content in zip(files, (refs, tables), strict=True):
        file.write_text(json.dumps(content))
    of_own = make_settings(datasets=[str(own)])
    with pytest.raises(InputError, match=message) as error:
        load_split(of_own, str(own), "val")
    assert str(own) in str(error.value) and "\n" not in str(error.value)


def test_a_dataset_without_refs(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(InputError, match=r"has no refs\(\.\.\.\)\.json"):
        columns(make_settings(datasets=[str(tmp_path)]))
    (tmp_path / "refs(x).json").write_text("[]")
    with pytest.raises(InputError, match=r"holds no refs: refs\(x\)\.json is empty"):
        columns(make_settings(datasets=[str(tmp_path)]))
    with pytest.raises(InputError, match=r"is no dataset: there is no file .*instances\.json"):
        make_settings(datasets=[str(tmp_path / "none")])


def test_completeness(settings: Settings, tmp_path: Path) -> None:
    check_complete(settings, "refscenes", "val")
    (tmp_path / "embedded" / "images" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images of RefScenes val are .*b\.png"):
        check_complete(settings, "refscenes", "val")
    only = settings.model_copy(update={"datasets": ("refscenes",)})
    with pytest.raises(InputError, match=r"refscenes/refs\(unc\)\.json is missing"):
        (tmp_path / "embedded" / "refscenes" / "refs(unc).json").unlink()
        check_there(only)
