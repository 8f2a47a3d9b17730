"""Files of refs and instances: any JSON, pickles of any version, and other files."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
from own_dataset import REFERENCES
from python_2 import as_python_2

from tasnb.datasets.reading import read_pickle
from tasnb.datasets.splits import load_split
from tasnb.settings import InputError, Settings


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


# --- pickles


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
    """A pickle that runs a command when it is loaded without precautions."""

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
    assert trace.exists()  # it does run something
    trace.unlink()
    pickled(settings, pickle.dumps([*REFERENCES, {"ref_id": harm}], protocol))
    with pytest.raises(InputError, match=r"it would load \w+\.system\); nothing in it was"):
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


# --- other kinds of JSON


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_as_windows_writes_it(settings: Settings, encoding: str) -> None:
    expected = load_split(settings, "refscenes", "val").sentences
    for path in (settings.data / "embedded" / "refscenes").iterdir():
        path.write_bytes(path.read_text().encode(encoding))
    pd.testing.assert_frame_equal(load_split(settings, "refscenes", "val").sentences, expected)


OTHER = {
    "Latin-1": '[{"split": "é"}]'.encode("latin-1"),
    "5,000 digits": b"[" + b"9" * 5000 + b"]",
    "200,000 brackets": b"[" * 200_000,
    "two values": b"[] []",
}


@pytest.mark.parametrize("what", OTHER)
def test_what_is_no_json(settings: Settings, what: str) -> None:
    for name in ("instances.json", "refs(unc).json"):
        (settings.data / "embedded" / "refscenes" / name).write_bytes(OTHER[what])
        with pytest.raises(InputError, match=r"is not JSON \(.*\); restore it") as error:
            load_split(settings, "refscenes", "val")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_file_that_is_a_folder(settings: Settings) -> None:
    path = settings.data / "embedded" / "refscenes" / "instances.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"cannot read .*instances\.json: Is a directory"):
        load_split(settings, "refscenes", "val")


def test_a_file_that_changes_is_read_again(settings: Settings) -> None:
    """Even if its modification time is the same, as after a copy."""
    path = settings.data / "embedded" / "refscenes" / "refs(unc).json"
    assert len(load_split(settings, "refscenes", "val").sentences) == 5
    time = path.stat().st_mtime_ns
    path.write_text(json.dumps(REFERENCES[:3]))
    os.utime(path, ns=(time, time))
    assert len(load_split(settings, "refscenes", "val").sentences) == 3
