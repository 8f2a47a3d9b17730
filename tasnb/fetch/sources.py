"""What can be fetched and where it lies: the table ``sources.toml``, and what is there of it."""

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

State = Literal["there", "partial", "missing"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://")]
_PACKAGES = Path(sysconfig.get_paths()["purelib"])


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    about: int | None = Field(default=None, gt=0)  # bytes, not exact

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return self.about or 0


class File(_Record):
    """A file in the data folder, or a folder that an archive is unpacked into.

    Attributes:
        path: Where it goes, relative to the data folder; of an archive, the folder of its content.
        urls: Where it is to be had, in order.
        bytes: Its exact size, or the archive's.
        sha256: Its digest, or the archive's.
        torch_hub: Whether torch.hub's folder is another place for it.
        unpack: "zip" for an archive.
        archive: Where the archive lies until it is unpacked, relative to the data folder.
        inside: What the names of the archive's wanted members begin with.
        members: Those names without `inside`; all of them there means complete.
        count: How many files in the folder mean complete.
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
        """Where its bytes go: the file, or the archive."""
        return to / (self.archive or self.path)

    def where(self, to: Path) -> Path:
        """Where it is, or where it goes if it is nowhere."""
        own = to / self.path
        if self.torch_hub and not own.is_file():
            other = torch_hub_folder() / own.name
            return other if other.is_file() else own
        return own

    def state(self, to: Path) -> State:
        path, came = self.where(to), self.comes_to(to)
        if not self.unpack:
            if path.is_file():
                # A shorter file is what some other program has not finished.
                right = self.bytes in (None, path.stat().st_size)
                return "there" if right else "partial"
            return "partial" if part_of(came).is_file() else "missing"
        if done_mark(path, came).is_file():
            return "there"
        if self.members and all((path / name).is_file() for name in self.members):
            return "there"
        if self.count and _files_in(path) >= self.count:
            return "there"
        begun = came.is_file() or part_of(came).is_file() or path.is_dir()
        return "partial" if begun else "missing"


class Hub(_Record):
    """A repository of Hugging Face's hub, in the hub's own cache.

    Attributes:
        repo: Its name.
        allow: Patterns of the files that are wanted; none: all.
        needs: Patterns that each match a file when it is complete.
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
        return "partial" if self.lacking(to) else "there"

    def lacking(self, to: Path) -> list[str]:
        """What has not come: patterns that match no file, and shards that an index names."""
        names = self._names(to)
        lacking = [need for need in self.needs if not any(fnmatch(name, need) for name in names)]
        for index in names:
            if index.endswith(".index.json"):
                lacking += [shard for shard in self._shards(names[index]) if shard not in names]
        return lacking

    def _names(self, to: Path) -> dict[str, Path]:
        """The files of the snapshot that a library loads: the one that the branch points to."""
        folder = self.where(to)
        try:
            commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
            found = list((folder / "snapshots" / commit).iterdir())
        except OSError:
            return {}
        # Links to blobs that have not come yet are no files.
        return {path.name: path for path in found if path.is_file()}

    def _shards(self, index: Path) -> list[str]:
        """Those of an index's files that are wanted; the index itself if it cannot be read."""
        try:
            text = index.read_text(encoding="utf-8")
            shards = sorted(set(json.loads(text)["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [f"a readable {index.name}"]
        wanted = self.allow or ("*",)
        return [shard for shard in shards if any(fnmatch(shard, allow) for allow in wanted)]


class OpenClip(_Record):
    """Weights that open_clip fetches itself, from the repository of the hub that it names."""

    model: str
    tag: str
    repo: str

    @property
    def hub(self) -> Hub:
        return Hub(repo=self.repo, needs=("open_clip_*model.*",))

    def where(self, to: Path) -> Path:
        return self.hub.where(to)

    def state(self, to: Path) -> State:
        return self.hub.state(to)

    def lacking(self, to: Path) -> list[str]:
        return self.hub.lacking(to)


class Spacy(_Record):
    """A pipeline of spaCy, which is installed as a package.

    Attributes:
        name: The package's and the pipeline's name.
        needs: Packages that it cannot be loaded without; they are installed with it.
    """

    name: str
    needs: tuple[str, ...] = ()

    def where(self, to: Path) -> Path:
        spec = find_spec(self.name)
        return Path(spec.origin).parent if spec and spec.origin else _PACKAGES / self.name

    def state(self, to: Path) -> State:
        if not find_spec(self.name):
            return "missing"
        return "partial" if self.lacking(to) else "there"

    def lacking(self, to: Path) -> list[str]:
        return [name for name in (self.name, *self.needs) if not find_spec(name)]


Piece = File | Hub | OpenClip | Spacy


class Item(BaseModel):
    """What is fetched under one name."""

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
    """The table: items, and bundles of their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: dict[str, tuple[str, ...]] = {}
    items: tuple[Item, ...]

    def select(self, names: Iterable[str]) -> list[Item]:
        """The items of these names and bundles, each once, in the order given.

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
    """Where torch.hub keeps checkpoints, found without importing torch."""
    if "torch" in sys.modules:  # its folder may have been set in the program
        return Path(sys.modules["torch"].hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _files_in(folder: Path) -> int:
    """How many files are in a folder, marks and other hidden ones not counted."""
    if not folder.is_dir():
        return 0
    return sum(entry.is_file() and entry.name[0] != "." for entry in os.scandir(folder))
