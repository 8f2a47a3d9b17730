"""Every repository of the table, fetched by its own library from a hub that lists what is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hub import INFERRED, LEAST, PUBLISHED, HubSite, bodies, fetch_from, hub, with_hub

from tasnb.fetch.sources import Hub, Item, Sources, load_sources
from tasnb.settings import ROOT

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


def test_each_listing_that_was_inferred_is_said_to_be() -> None:
    """Those of modern that are in no other bundle; the others were taken from the hub's pages."""
    repos = {}
    for bundle in ("lite", "paper", "modern"):
        items = load_sources().select([bundle])
        repos[bundle] = {p.repo for item in items for p in (*item.hub, *item.open_clip)}
    only = repos["modern"] - repos["paper"] - repos["lite"]
    assert only == set(INFERRED) == set(LEAST)
    assert all(set(LEAST[repo]) < set(PUBLISHED[repo]) for repo in only)


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["preprocessor_config.json", "processor_config.json"])
def test_what_was_inferred_may_be_less(hub: HubSite, tmp_path: Path, processor: str) -> None:
    """No download fails for want of a file that loading can do without."""
    for repo, names in LEAST.items():
        hub.put(repo, bodies((*names, processor)))
    found = [
        item.name
        for item in load_sources().select(["modern"])
        if any(piece.repo in LEAST for piece in (*item.hub, *item.open_clip))
    ]
    done = fetch_from(hub, tmp_path, load_sources(), *found)
    assert done.returncode == 0 and len(found) == len(LEAST), done.stderr[-2000:]


READ = """
from tasnb.models.encoders import _tokenizer
print(*_tokenizer("ViT-SO400M-16-SigLIP2-384")(["a cat"]).shape)
"""


@pytest.mark.slow
def test_a_tokenizer_without_a_config_is_read_offline(hub: HubSite, tmp_path: Path) -> None:
    """transformers looks for a config.json beside it, which a download alone cannot rule out."""
    from transformers import AutoTokenizer

    repo, own = "timm/ViT-SO400M-16-SigLIP2-384", tmp_path / "tokenizer"
    AutoTokenizer.from_pretrained(ROOT / "data/embedded/checkpoints/blip2").save_pretrained(own)
    hub.files[repo] |= {path.name: path.read_bytes() for path in own.iterdir()}
    assert "config.json" not in hub.files[repo]
    done = fetch_from(hub, tmp_path, load_sources(), "siglip2-so400m")
    assert done.returncode == 0, done.stderr[-2000:]
    read = with_hub(hub, tmp_path, "-c", READ, HF_HUB_OFFLINE="1")
    assert read.returncode == 0 and read.stdout.split() == ["1", "64"], read.stderr[-2000:]


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
