"""What can be downloaded, from where to where: ``sources.toml``, and what is already there."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasnb.fetch.archives import done_mark
from tasnb.fetch.transfers import part_of
from tasnb.settings import unknown

State = Literal["complete", "partial", "missing"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://")]
_PACKAGES = Path(sysconfig.get_paths()["purelib"])


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    about: int | None = Field(default=None, gt=0)  # approximate size in bytes

    @property
    def size(self) -> int:
        """Size in bytes as far as it is known, otherwise 0."""
        return self.about or 0


class File(_Record):
    """A file in the data folder, or a folder into which an archive is unpacked.

    Attributes:
        path: Where it goes, relative to the data folder; for an archive, the folder of its content.
        urls: Addresses, tried in this order.
        bytes: Exact size of the file or archive.
        sha256: Digest of the file or archive.
        torch_hub: Whether it may also be in torch.hub's folder.
        unpack: "zip" for an archive.
        archive: Where the archive is kept until it is unpacked, relative to the data folder.
        inside: Prefix of the archive's members that are unpacked.
        members: Names of these members without the prefix; the folder is complete with all of them.
        count: Number of files in a complete folder.
    """

    path: str
    urls: tuple[Url, ...] = Field(min_length=1)
    bytes: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    torch_hub: bool = False
    unpack: Literal["", "zip"] = ""
    archive: str = ""
    inside: str = ""
    members: tuple[str, ...] = ()
    count: int | None = None

    @property
    def size(self) -> int:
        return self.bytes or self.about or 0

    def comes_to(self, to: Path) -> Path:
        """Where the download is written: the path of the file or the archive."""
        return to / (self.archive or self.path)

    def where(self, to: Path) -> Path:
        """Where it is, or where it goes if it is missing."""
        own = to / self.path
        if self.torch_hub and not own.is_file():
            other = torch_hub_folder() / own.name
            return other if other.is_file() else own
        return own

    def state(self, to: Path) -> State:
        path, came = self.where(to), self.comes_to(to)
        if not self.unpack:
            if path.is_file():
                # A shorter file is an unfinished download of another program.
                right = self.bytes in (None, path.stat().st_size)
                return "complete" if right else "partial"
            return "partial" if part_of(came).is_file() else "missing"
        if done_mark(path, came).is_file():
            return "complete"
        if self.members and all((path / name).is_file() for name in self.members):
            return "complete"
        if self.count and _files_in(path) >= self.count:
            return "complete"
        begun = came.is_file() or part_of(came).is_file() or path.is_dir()
        return "partial" if begun else "missing"


class Hub(_Record):
    """A repository on the Hugging Face hub, in the hub's own cache.

    Attributes:
        repo: Its name.
        allow: Patterns of the files to download; all files if empty.
        needs: Patterns that must each match a file of a complete download.
    """

    repo: str
    allow: tuple[str, ...] = ()
    needs: tuple[str, ...] = Field(min_length=1)

    def where(self, to: Path) -> Path:
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"

    def state(self, to: Path) -> State:
        if not self.where(to).is_dir():
            return "missing"
        return "partial" if self.lacking(to) else "complete"

    def lacking(self, to: Path) -> list[str]:
        """What is missing: patterns that match no file, and shards listed in an index."""
        names = self._names(to)
        lacking = [need for need in self.needs if not any(fnmatch(name, need) for name in names)]
        for index in names:
            if index.endswith(".index.json"):
                lacking += [shard for shard in self._shards(names[index]) if shard not in names]
        return lacking

    def files(self, to: Path) -> list[Path]:
        """The files that libraries load, as links to their content in the cache."""
        return sorted(self._names(to).values())

    def _names(self, to: Path) -> dict[str, Path]:
        """The files of the snapshot that libraries load: the one that the branch points to."""
        folder = self.where(to)
        try:
            commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
            found = list((folder / "snapshots" / commit).iterdir())
        except OSError:
            return {}
        # Links to blobs that are not downloaded yet do not count as files.
        return {path.name: path for path in found if path.is_file()}

    def _shards(self, index: Path) -> list[str]:
        """The shards to download according to an index, or the index itself if unreadable."""
        try:
            text = index.read_text(encoding="utf-8")
            shards = sorted(set(json.loads(text)["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [f"a readable {index.name}"]
        wanted = self.allow or ("*",)
        return [shard for shard in shards if any(fnmatch(shard, allow) for allow in wanted)]


class OpenClip(_Record):
    """Weights that open_clip downloads itself, from a repository on the hub.

    Attributes:
        tokenizer: Files there that the tokenizer needs, unless it is the one that comes with
            open_clip.
    """

    model: str
    tag: str
    repo: str
    tokenizer: tuple[str, ...] = ()

    @property
    def hub(self) -> Hub:
        return Hub(repo=self.repo, needs=("open_clip_*model.*", *self.tokenizer))

    def where(self, to: Path) -> Path:
        return self.hub.where(to)

    def state(self, to: Path) -> State:
        return self.hub.state(to)

    def lacking(self, to: Path) -> list[str]:
        return self.hub.lacking(to)


class Spacy(_Record):
    """A spaCy pipeline, which is installed as a package.

    Attributes:
        name: Name of the package and the pipeline.
        needs: Packages required to load it, which are installed with it.
    """

    name: str
    needs: tuple[str, ...] = ()

    def where(self, to: Path) -> Path:
        spec = find_spec(self.name)
        return Path(spec.origin).parent if spec and spec.origin else _PACKAGES / self.name

    def state(self, to: Path) -> State:
        if not find_spec(self.name):
            return "missing"
        return "partial" if self.lacking(to) else "complete"

    def lacking(self, to: Path) -> list[str]:
        return [name for name in (self.name, *self.needs) if not find_spec(name)]


Piece = File | Hub | OpenClip | Spacy


class Item(BaseModel):
    """Everything that is downloaded under one name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    what: str
    licence: str = ""
    files: tuple[File, ...] = ()
    hub: tuple[Hub, ...] = ()
    open_clip: tuple[OpenClip, ...] = ()
    spacy: Spacy | None = None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        own = (*self.files, *self.hub, *self.open_clip)
        return (*own, self.spacy) if self.spacy else own

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def state(self, to: Path) -> State:
        states = {piece.state(to) for piece in self.pieces}
        return states.pop() if len(states) == 1 else "partial"


class Sources(BaseModel):
    """The table: items, and bundles of items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: dict[str, tuple[str, ...]] = {}
    items: tuple[Item, ...]

    def select(self, names: Iterable[str]) -> list[Item]:
        """The items with these names or in these bundles, each once, in the given order.

        Raises:
            InputError: A name is unknown.
        """
        known = {item.name: item for item in self.items}
        chosen: dict[str, Item] = {}
        for name in names:
            if name not in known and name not in self.bundles:
                raise unknown("source", name, [*self.bundles, *known])
            chosen |= {one: known[one] for one in self.bundles.get(name, (name,))}
        return list(chosen.values())


@lru_cache(maxsize=1)
def load_sources() -> Sources:
    """The table that comes with the package."""
    text = Path(__file__).with_name("sources.toml").read_text(encoding="utf-8")
    return Sources.model_validate(tomllib.loads(text))


def torch_hub_folder() -> Path:
    """The folder where torch.hub keeps checkpoints, found without importing torch."""
    if "torch" in sys.modules:  # the program may have set another folder
        return Path(sys.modules["torch"].hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _files_in(folder: Path) -> int:
    """Number of files in a folder, without hidden files such as our marks."""
    if not folder.is_dir():
        return 0
    return sum(entry.is_file() and entry.name[0] != "." for entry in os.scandir(folder))
