"""Every repository of the table, fetched by its own library from a hub that lists what is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hub import PUBLISHED, HubSite, fetch_from, hub

from tasnb.fetch.sources import Hub, Item, Sources, load_sources

__all__ = ["hub"]  # a fixture


@pytest.fixture(scope="module")
def known() -> Sources:
    """Of the table, what comes from the hub by the hub's client or by open_clip."""
    items = [item for item in load_sources().items if item.hub or item.open_clip]
    return Sources(items=tuple(item.model_copy(update={"files": ()}) for item in items))


@pytest.mark.slow
def test_all_of_the_table_is_there(hub: HubSite, tmp_path: Path, known: Sources) -> None:
    names = [item.name for item in known.items]
    done = fetch_from(hub, tmp_path, known, *names)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == names
    weights = {path.name for path in (tmp_path / "hub").rglob("*") if path.suffix != ".json"}
    assert "pytorch_model.bin" in weights and "model-00002-of-00002.safetensors" in weights
    assert "flax_model.msgpack" not in weights and "pytorch_model-00001-of-00002.bin" not in weights
    asked = len(hub.asked)
    again = fetch_from(hub, tmp_path, known, *names, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and again.stdout.count(" (already there)\n") == len(names)
    assert len(hub.asked) == asked


def test_addresses_at_the_hub_are_those_of_files_that_it_lists() -> None:
    urls = [url for item in load_sources().items for file in item.files for url in file.urls]
    paths = [urlsplit(url).path[1:] for url in urls if "//huggingface.co/" in url]
    models = [path for path in paths if not path.startswith("datasets/")]
    assert models
    for path in models:
        repo, _, name = path.partition("/resolve/main/")
        assert name in PUBLISHED[repo], path


@pytest.mark.slow
def test_what_did_not_come_is_no_success(hub: HubSite, tmp_path: Path) -> None:
    """A repository without one of the files that are needed: the client itself has no complaint."""
    one = Hub(
        repo="microsoft/git-base-coco",
        allow=("*.json", "model.safetensors"),
        needs=("config.json", "model.safetensors"),
    )
    found = Sources(items=(Item(name="git", what="GIT.", hub=(one,)),))
    for _ in range(2):  # nor is it one the second time
        done = fetch_from(hub, tmp_path, found, "git")
        assert done.returncode == 2 and done.stdout == ""
        last = done.stderr.splitlines()[-1]
        assert last.startswith("tasnb: cannot download git: what was downloaded to ")
        assert "lacks model.safetensors" in last and str(tmp_path / "hub") in last


@pytest.mark.slow
def test_a_shard_that_an_index_names_is_needed_too(hub: HubSite, tmp_path: Path) -> None:
    del hub.files["Salesforce/blip2-opt-2.7b"]["model-00002-of-00002.safetensors"]
    done = fetch_from(hub, tmp_path, load_sources(), "blip2")
    assert done.returncode == 2 and done.stdout == ""
    assert "lacks model-00002-of-00002.safetensors" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_one_of_several_is_incomplete(hub: HubSite, tmp_path: Path) -> None:
    del hub.files["microsoft/git-base-coco"]["pytorch_model.bin"]
    done = fetch_from(hub, tmp_path, load_sources(), "git-base-coco", "sam-vit-base")
    assert done.returncode == 2
    assert "cannot download git-base-coco: " in done.stdout
    assert "sam-vit-base: " in done.stdout
    assert "1 of 2 downloads failed: git-base-coco" in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_a_name_that_the_hub_does_not_know(hub: HubSite, tmp_path: Path, there: bool) -> None:
    """Of a repository, or of open_clip's weights in one."""
    hub.put("timm/resnet50_clip.openai", {"README.md": b""})
    hub.files.pop("facebook/sam-vit-base")
    name, what = ("clip-rn50", "open_clip's RN50") if there else ("sam-vit-base", "facebook/sam-")
    done = fetch_from(hub, tmp_path, load_sources(), name)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"tasnb: cannot download {what}")
