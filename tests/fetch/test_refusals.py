"""Repositories that the hub refuses: one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub import HubSite, hub, with_hub

__all__ = ["hub"]  # a fixture

TRY = """
import sys
from tasnb.fetch import fetch
from tasnb.fetch.sources import Hub, Item, Sources
from tasnb.models.captioners import load_captioner
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import InputError, make_settings

def download(name):
    hub = Hub(repo=name, needs=("config.json",))
    fetch(["it"], sys.argv[1], sources=Sources(items=(Item(name="it", what="it", hub=(hub,)),)))

def encoder(name):
    load_encoder(f"open_clip:{name}", make_settings())

def captioner(name):
    load_captioner(make_settings(captioner=f"hf:{name}"))

def network(name):
    load_proposal_network(make_settings(proposal_network=f"hf:{name}"))

for line in sys.argv[2:]:
    kind, _, name = line.partition("=")
    try:
        globals()[kind](name)
        print(f"{line} is there")
    except InputError as error:
        print(error)
"""

GATED = "is gated: accept its conditions at https://huggingface.co/"
UNKNOWN = "is not on the hub, or is private: check the spelling and whether it was renamed"
EXPIRED = "the hub does not accept your token: log in again with `hf auth login`"
HUB = "from the Hugging Face hub"
SIGLIP = "ViT-B-16-SigLIP2"
CASES = {
    "download=facebook/sam3": f"download facebook/sam3 {HUB}: facebook/sam3 {GATED}facebook/sam3,",
    "network=facebook/sam3": f"load hf:facebook/sam3: facebook/sam3 {GATED}facebook/sam3,",
    "captioner=some/forbidden": f"load hf:some/forbidden: some/forbidden {GATED}some/forbidden,",
    "captioner=nobody/nothing": f"load hf:nobody/nothing: nobody/nothing {UNKNOWN}",
    "download=nobody/nothing": f"download nobody/nothing {HUB}: nobody/nothing {UNKNOWN}",
    f"encoder={SIGLIP}/webli": f"load open_clip:{SIGLIP}/webli: timm/{SIGLIP} is gated",
    "captioner=mine/expired": f"load hf:mine/expired: {EXPIRED}",
    "download=bert-base-uncased": "",  # moved, and the hub redirects
}


@pytest.mark.slow
def test_refused_repositories(hub: HubSite, tmp_path: Path) -> None:
    for name, status, code in (
        ("facebook/sam3", 401, "GatedRepo"),
        ("some/forbidden", 403, "GatedRepo"),
        (f"timm/{SIGLIP}", 403, "GatedRepo"),
        ("mine/expired", 401, ""),
    ):
        hub.put(name, {"config.json": b"{}", "model.safetensors": b"", "README.md": b""})
        hub.refused[name] = status, code
    done = with_hub(hub, tmp_path, "-c", TRY, str(tmp_path / "data"), *CASES)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    said = [line for line in lines if line.startswith("cannot ")]
    wanted = [f"cannot {text}" for text in CASES.values() if text]
    assert len(said) == len(wanted), done.stdout
    for line, start in zip(said, wanted, strict=True):
        assert line.startswith(start), line
    assert "download=bert-base-uncased is there" in lines
    assert len(lines) == len(CASES) + 1  # fetch() itself names the item
