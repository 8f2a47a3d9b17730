"""Results on disk: nothing that a stage has computed is computed again.

The results of a stage are in ``<store>/<stage>/<fingerprint>/``, as shards of a few keys (images or
texts) each. The data files of a shard are written first and its small ``shard-....json`` last: it
lists the data files with their digests, contains a digest of itself, and marks the shard as
finished. Every file is renamed into place, and the names of data files contain a digest of their
content, so neither a killed process nor two concurrent ones can leave files that look valid but are
not.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tasnb.store import failures
from tasnb.store.files import atomic_write, file_digest, fingerprint, size_and_time, sweep
from tasnb.store.threads import ONE_THREAD

Part = pd.DataFrame | np.ndarray | tuple[np.ndarray, Sequence[str]]
Work = Callable[[list[str]], Mapping[str, Part]]

Finished = Generator[tuple[list[str], str], None, None]
"""Yields keys that have been processed, and their error: "" if they are stored."""

used: set[Path] = set()
"""The JSON files of all shards in which this process has found keys that it needed."""


class Backend(Protocol):
    """Computes and stores shards of a stage, each a list of keys.

    Attributes:
        concurrent: Whether several threads of this process may use it at the same time.
    """

    concurrent: bool

    def __call__(self, stage: Stage, work: Work, shards: Sequence[list[str]]) -> Finished: ...


@dataclass(frozen=True)
class _Shard:
    """The content of a ``shard-....json``: `files` and `counts` (rows per key) are by part."""

    name: str
    keys: list[str]
    files: dict[str, str]
    counts: dict[str, list[int]]


class Store:
    """A folder of stages, and the backend that computes missing results (None: this process)."""

    def __init__(self, root: str | Path, backend: Backend | None = None) -> None:
        self.root = Path(root)
        self.backend = backend

    def stage(
        self,
        name: str,
        version: int,
        settings: Mapping[str, Any],
        inputs: Sequence[str] = (),
    ) -> Stage:
        """The results of one stage under exactly these settings.

        Args:
            name: The name of the stage and of its folder.
            version: Increased by hand when the code of the stage changes its results.
            settings: Everything the results depend on, including digests of weights;
                JSON-serializable.
            inputs: Fingerprints of the stages (or digests of the files) that it reads.
        """
        hashed = {
            "stage": name,
            "version": version,
            "settings": dict(settings),
            "inputs": list(inputs),
        }
        return Stage(self.root / name / fingerprint(hashed)[:16], hashed, self.backend)


_SEEN: dict[
    Path,
    tuple[dict[str, tuple[int, int]], dict[str, tuple[tuple[int, int], dict[str, Any] | None]]],
] = {}
"""What this process knows about the files in each folder of shards."""


class Stage:
    """A growing collection of shards, looked up by string keys; made with `Store.stage`.

    Attributes:
        folder: Contains the shards; created when the first one is written.
        name: The name of the stage.
        fingerprint: 64 hex digits, one of the `inputs` of stages that read this one.
    """

    def __init__(
        self, folder: Path, hashed: dict[str, Any], backend: Backend | None = None
    ) -> None:
        self.folder = folder
        self.name: str = hashed["stage"]
        self.fingerprint = fingerprint(hashed)
        self._hashed = hashed
        self._backend = backend
        # Shared by all stages of this folder, since one is made for every call: by file, its size
        # and mtime when it was hashed; the same, and its content.
        self._verified, self._records = _SEEN.setdefault(folder, ({}, {}))
        self._warned: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        """For workers: the same folder, without caches and backend."""
        return Stage, (self.folder, self._hashed)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that are in no finished shard, in order and without duplicates."""
        wanted = list(dict.fromkeys(keys))
        home = self._home(wanted)
        return [key for key in wanted if key not in home]

    def compute(
        self, keys: Iterable[str], work: Work, shard_size: int = 16, desc: str | None = None
    ) -> None:
        """Computes and stores the missing `keys`, one shard at a time.

        Other threads of this process that compute a stage wait until it is done; workers do not.

        Args:
            keys: Any strings; repeated keys are computed once.
            work: Takes up to `shard_size` keys and returns the parts of their results by name: a
                DataFrame with a column `key` (any number of rows per key, including none), an array
                with one row per key, or (array, the key of each row).
            shard_size: Keys per shard.
            desc: Title of the progress bar; by default the name of the stage.

        Raises:
            InputError: The store is not writable; or keys failed on a backend that skips failures,
                in which case the rest is stored, and the failed keys are listed in
                ``failures.json`` until they are stored, too.
        """
        sweep(self.folder)
        missing = self.missing(keys)
        if not missing:
            return
        if self._backend and self._backend.concurrent:
            self._compute(missing, work, shard_size, desc)
            return
        with ONE_THREAD:
            missing = self.missing(missing)  # another thread may have computed them
            if missing:
                self._compute(missing, work, shard_size, desc)

    def _compute(self, missing: list[str], work: Work, shard_size: int, desc: str | None) -> None:
        from tqdm import tqdm

        self._open()
        shards = [missing[i : i + shard_size] for i in range(0, len(missing), shard_size)]
        failed: dict[str, str] = {}
        try:
            with (
                # leave=None: a bar below another one is removed when it is full
                tqdm(total=len(missing), desc=desc or self.name, unit="", leave=None) as bar,
                closing((self._backend or serial)(self, work, shards)) as finished,
            ):
                for shard, error in finished:
                    failed |= dict.fromkeys(shard, error) if error else {}
                    bar.update(len(shard))
        finally:
            failures.note(self.folder, failed, self.missing)
        if failed:
            raise failures.error_of(self.name, self.folder, failed, len(missing))

    def compute_shard(self, keys: list[str], work: Work) -> None:
        """Computes and stores one shard, even if its keys are stored already."""
        began = time.perf_counter()
        self._write(keys, work(list(keys)), began)

    def read(self, keys: Iterable[str], part: str) -> Any:
        """One part of the results of `keys`, in order; repeated keys count once.

        Returns:
            The rows as a DataFrame with a column `key` and a new index; or, if the part is an
            array, (array, list of the key of each row).

        Raises:
            KeyError: A key has not been computed, or the stage has no such part.
        """
        wanted = list(dict.fromkeys(keys))
        home = self._home(wanted)
        lost = [key for key in wanted if key not in home]
        if lost:
            raise KeyError(
                f"stage {self.name}: {len(lost)} of {len(wanted)} keys have not been computed; "
                f"the first is {lost[0]!r}"
            )
        # Without any keys, some shard is needed for the type of the part and its columns.
        shards = {home[key].name: home[key] for key in wanted or list(home)[:1]}
        for shard in shards.values():
            if part not in shard.files:
                raise KeyError(f"stage {self.name} has no part {part!r}: {', '.join(shard.files)}")

        order = {key: rank for rank, key in enumerate(wanted)}
        pieces: list[Any] = []
        ranks: list[np.ndarray] = []  # the position in `wanted` of every row read
        for shard in shards.values():
            of_key = [order[k] if k in order and home[k] is shard else -1 for k in shard.keys]
            rank = np.repeat(np.array(of_key, dtype=np.int64), shard.counts[part])
            pieces.append(self._load(self.folder / shard.files[part]))
            ranks.append(rank)
        rank = np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64)
        take = np.argsort(rank, kind="stable")[np.count_nonzero(rank < 0) :]
        if pieces and isinstance(pieces[0], np.ndarray):
            pieces = [piece for piece in pieces if len(piece)] or pieces[:1]  # of any width
            return np.concatenate(pieces)[take], [wanted[i] for i in rank[take]]
        return _joined(pieces).iloc[take].reset_index(drop=True)

    def _write(self, keys: list[str], parts: Mapping[str, Part], began: float) -> None:
        """Writes the data files first and the JSON that marks the shard as finished last.

        A shard that another process has finished meanwhile is kept: it may already have been read.
        """
        name = _shard_name(keys)
        finished = self._record(self.folder / f"{name}.json")
        if finished and self._whole(finished):
            return
        files: dict[str, str] = {}
        digests: dict[str, str] = {}
        counts: dict[str, list[int]] = {}
        for part, rows in parts.items():
            payload, suffix, counts[part] = _packed(part, rows, keys)
            digest = hashlib.sha256(payload).hexdigest()
            # Two processes may differ in the last bits, so each writes its own files.
            files[part] = f"{name}.{part}.{digest[:8]}{suffix}"
            digests[files[part]] = digest
            with atomic_write(self.folder / files[part]) as temporary:
                temporary.write_bytes(payload)
        record = {
            "keys": keys,
            "parts": files,
            "files": digests,
            "rows": counts,
            "seconds": round(time.perf_counter() - began, 3),
        }
        record["digest"] = fingerprint(record)
        with atomic_write(self.folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(record), encoding="utf-8")

    def _open(self) -> None:
        """Creates the folder, and records in it what the fingerprint is computed from."""
        note = self.folder / "stage.json"
        text = json.dumps(self._hashed, indent=2) + "\n"
        if not note.is_file() or note.read_bytes() != text.encode():
            with atomic_write(note) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _home(self, wanted: list[str]) -> dict[str, _Shard]:
        """Key -> the finished shard that contains it; if there are several, the first by name."""
        home: dict[str, _Shard] = {}
        broken: list[tuple[str, list[str]]] = []
        for file in sorted(self.folder.glob("shard-*.json")):
            record = self._record(file)
            keys = record["keys"] if record else []
            if record and self._whole(record):
                shard = _Shard(file.name, keys, record["parts"], record["rows"])
                for key in keys:
                    home.setdefault(key, shard)
            else:
                broken.append((file.name, keys))
        needed = wanted or list(home)[:1]  # as in `read`
        names = {home[key].name for key in needed if key in home}
        used.update(self.folder / name for name in names)
        for name, keys in broken:
            # No warning if other shards contain the keys: they were recomputed in other groups.
            # A damaged JSON does not tell which keys it had.
            if name not in self._warned and any(key not in home for key in keys or wanted):
                self._warned.add(name)
                warnings.warn(
                    f"{self.folder / name}: the shard is truncated or was modified; "
                    "it is ignored and will be computed again",
                    stacklevel=3,
                )
        return home

    def _record(self, file: Path) -> dict[str, Any] | None:
        """The content of a shard's JSON; None if it is damaged."""
        try:
            stamp = size_and_time(file)
            if file.name not in self._records or self._records[file.name][0] != stamp:
                record = json.loads(file.read_bytes())
                digest = record.pop("digest", None)  # the first stores had none
                same = digest in (None, fingerprint(record))
                named = f"{_shard_name(record['keys'])}.json" == file.name
                there = set(record["parts"].values()) == record["files"].keys()
                if not (
                    same and named and there and record["parts"].keys() == record["rows"].keys()
                ):
                    record = None
                self._records[file.name] = (stamp, record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no valid record
            return None
        return self._records[file.name][1]

    def _whole(self, record: dict[str, Any]) -> bool:
        """Whether all data files of a shard match their digests."""
        return all(self._intact(*item) for item in record["files"].items())

    def _intact(self, name: str, digest: str) -> bool:
        """Whether a data file matches its digest; rehashed only if size or mtime have changed."""
        file = self.folder / name
        try:
            stamp = size_and_time(file)
            if self._verified.get(name) != stamp:
                if file_digest(file) != digest:
                    return False
                self._verified[name] = stamp
        except OSError:
            return False
        return True

    @staticmethod
    def _load(file: Path) -> Any:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file)


def serial(stage: Stage, work: Work, shards: Sequence[list[str]]) -> Finished:
    """Computes one shard after the other in this process; the first error ends the run."""
    for keys in shards:
        stage.compute_shard(keys, work)
        yield keys, ""


def _shard_name(keys: list[str]) -> str:
    return f"shard-{fingerprint(keys)[:12]}"


def _packed(part: str, rows: Part, keys: list[str]) -> tuple[bytes, str, list[int]]:
    """A part, sorted by key, as (bytes of its file, suffix, number of rows per key)."""
    if isinstance(rows, pd.DataFrame):
        row_keys = list(rows["key"])
    elif isinstance(rows, tuple):
        rows, row_keys = np.asarray(rows[0]), list(rows[1])
    else:
        row_keys = list(keys)
    rank = {key: i for i, key in enumerate(keys)}
    strangers = set(row_keys) - rank.keys()
    if strangers or len(row_keys) != len(rows):
        raise ValueError(
            f"part {part!r}: {len(rows)} rows, {len(row_keys)} keys, unexpected keys: "
            f"{sorted(map(str, strangers))[:3]}"
        )
    ranks = np.array([rank[key] for key in row_keys], dtype=np.int64)
    take = np.argsort(ranks, kind="stable")
    counts = np.bincount(ranks, minlength=len(keys)).tolist()
    buffer = io.BytesIO()
    if isinstance(rows, pd.DataFrame):
        rows.iloc[take].to_parquet(buffer, index=False, compression="zstd")
        return buffer.getvalue(), ".parquet", counts
    np.save(buffer, rows[take], allow_pickle=False)
    return buffer.getvalue(), ".npy", counts


def _joined(tables: list[Any]) -> pd.DataFrame:
    """The tables of several shards as one frame; column types of empty shards are ignored."""
    import pyarrow

    if not tables:
        return pd.DataFrame({"key": pd.Series(dtype=str)})
    tables = [table for table in tables if table.num_rows] or tables[:1]
    joined = pyarrow.concat_tables(tables, promote_options="permissive")
    return joined.to_pandas(ignore_metadata=True)
