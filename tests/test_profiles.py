"""What datasets are called: in tables, and in the names of files."""

from __future__ import annotations

from tasnb.profiles import DATASETS, file_part, stem, title

PETS = ("/data/v1/pets", "/data/v2/pets", "/other/v2/pets")


def test_known_datasets_keep_their_names() -> None:
    for name, dataset in DATASETS.items():
        assert (stem(name, PETS), title(name, PETS)) == (name, dataset.title)


def test_folders_of_the_same_name_are_told_apart() -> None:
    assert [title(d, PETS[:1]) for d in PETS[:1]] == ["pets"]
    assert [title(d, PETS[:2]) for d in PETS[:2]] == ["v1/pets", "v2/pets"]
    assert [title(d, PETS) for d in PETS] == ["v1/pets", "data/v2/pets", "other/v2/pets"]
    assert [stem(d, PETS) for d in PETS] == ["v1-pets", "data-v2-pets", "other-v2-pets"]
    assert title("/a/Pets", ["/a/Pets", "/b/pets"]) == "a/Pets"  # on a disk that ignores case


def test_a_folder_named_like_a_known_dataset() -> None:
    among = ("refcoco", "/mine/RefCOCO", "/mine/refcoco+")
    assert title("/mine/RefCOCO", among) == "mine/RefCOCO"
    assert title("/mine/refcoco+", among) == "refcoco+"  # that one is not in the run


def test_parts_of_files() -> None:
    for text in ("val", "val(U)", "refcoco+", "my dog", "n\u00e4chste", "v1.2", "_x"):
        assert file_part(text) == text
    odd = ["val/new", "val\\new", "val:new", "..", ".", ".val", "", "a\nb", "\ud83d", "*", "x" * 99]
    found = [file_part(text) for text in odd]
    assert len(set(found)) == len(odd)
    for name in found:
        assert name and "/" not in name and not name.startswith((".", "-")) and len(name) < 40
        assert name.encode()
