"""One picture and one expression through the embedded models (many: test_many)."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

import tasnb
from tasnb import settings as tasnb_settings
from tasnb.cli.arguments import main
from tasnb.datasets.images import load_image
from tasnb.datasets.splits import load_split
from tasnb.segmentation.answer import COLUMNS, Segmentation
from tasnb.settings import InputError, make_settings

Segment = Callable[..., Segmentation]
# Few proposals of any quality, so that nothing depends on how well the embedded SAM was trained.
SOME = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
NOTHING = {"pred_iou_thresh": 1.0, "stability_score_thresh": 1.0}  # reached by no proposal


@pytest.fixture(scope="module")
def path() -> Path:
    """The first picture of RefScenes val."""
    split = load_split(make_settings(limit=1), "refscenes", "val")
    return next(iter(split.images.values())).path


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    """`tasnb.segment` with a new store, so that nothing is reused from an earlier run."""
    store = tmp_path_factory.mktemp("store")
    own = {"store": str(store), **SOME}
    return lambda image, text, **more: tasnb.segment(image, text, **{**own, **more})


def test_the_answer(segment: Segment, path: Path) -> None:
    result = segment(path, " the left one ")
    frame = result.frame
    assert list(frame.columns) == COLUMNS and len(frame) >= 2
    assert frame["mask_id"].is_monotonic_increasing and frame["mask_id"].is_unique
    assert frame[["V", "P", "N"]].abs().max(axis=None) <= 1
    s = frame["V"] + 0.1 * frame["P"] + 0.7 * frame["N"]
    np.testing.assert_allclose(frame["S"], s, atol=1e-6)
    # the best S to the left of the median of the centres
    kept = frame["center_x"] <= np.median(frame["center_x"])
    assert frame["kept"].tolist() == kept.tolist()
    assert frame.index[frame["chosen"]].tolist() == [frame["S"].where(kept).idxmax()]
    assert frame["caption"].str.len().min() > 0
    # the mask is that of the chosen proposal
    chosen = frame[frame["chosen"]].iloc[0]
    ys, xs = np.nonzero(result.mask)
    assert (xs.mean(), ys.mean()) == pytest.approx((chosen["center_x"], chosen["center_y"]))
    np.testing.assert_array_equal(result.image, load_image(path))
    assert result.mask.shape == result.image.shape[:2] and result.mask.dtype == bool
    overlay = np.asarray(result.overlay())
    assert (overlay[result.mask] != result.image[result.mask]).any()
    assert overlay.shape == result.image.shape


def test_a_file_its_pixels_and_a_pillow_image_are_one(segment: Segment, path: Path) -> None:
    image = Image.open(path).convert("RGB")
    wanted = segment(path, "the right one")
    transparent = np.dstack([np.array(image), np.full(image.size[::-1], 255, np.uint8)])
    for same in (str(path), np.array(image), image, image.convert("RGBA"), transparent):
        result = segment(same, "the right one")
        np.testing.assert_array_equal(result.mask, wanted.mask)
        assert result.frame.equals(wanted.frame)


def test_a_grey_array(segment: Segment, path: Path) -> None:
    grey = np.array(Image.open(path).convert("L"))
    result = segment(grey, "the man")
    np.testing.assert_array_equal(result.image, np.repeat(grey[..., None], 3, 2))
    assert result.mask.shape == grey.shape


def test_the_last_encoder_is_used(segment: Segment, path: Path) -> None:
    names = make_settings().encoders
    both, last, first = (
        segment(path, "the man", encoders=e).frame for e in (names, names[-1:], names[:1])
    )
    assert both.equals(last) and not both["V"].equals(first["V"])


def test_a_long_expression_is_cut_with_a_warning(segment: Segment, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        segment(path, "the left one")
    with pytest.warns(
        UserWarning, match=r"the text encoder reads \d+ tokens at most; truncated: 'the left"
    ):
        result = segment(path, "the left one " * 40)
    assert result.frame["chosen"].sum() == 1


def test_the_warning_comes_every_time(segment: Segment, path: Path) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="truncated"):
            segment(path, "the right one " * 40)


# --- no proposals


@pytest.mark.parametrize("shape", [(50, 70), (1, 1)])
def test_an_image_without_proposals(segment: Segment, shape: tuple[int, int]) -> None:
    result = segment(np.full(shape, 128, np.uint8), "the left cat", **NOTHING)
    assert result.mask.shape == shape and not result.mask.any()
    assert list(result.frame.columns) == COLUMNS and result.frame.empty
    assert result.overlay().size == shape[::-1]


def command(arguments: list[str], profile: dict, monkeypatch: pytest.MonkeyPatch) -> int:
    own = {**tasnb_settings.PROFILES["embedded"], **profile}
    monkeypatch.setitem(tasnb_settings.PROFILES, "embedded", own)
    return main(["segment", *arguments])


def test_the_command_says_that_there_are_none(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "overlay.png"
    profile = {**NOTHING, "store": str(tmp_path / "store")}
    assert command([str(path), "the cat", "--out", str(out)], profile, monkeypatch) == 0
    assert capsys.readouterr().out == (
        "no mask was proposed in this picture: the answer is an empty mask\n"
        f"mask: 0.0 % of the picture; overlay: {out}\n"
    )
    np.testing.assert_array_equal(load_image(out), load_image(path))


def test_the_command_prints_the_frame(
    segment: Segment,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "overlay.png"
    wanted = segment(path, "the left one")
    profile = {**SOME, "store": str(tmp_path / "store")}
    assert command([str(path), "the left one", "--out", str(out)], profile, monkeypatch) == 0
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == COLUMNS and len(rows) == len(wanted.frame)
    assert last == f"mask: {100 * wanted.mask.mean():.1f} % of the picture; overlay: {out}"
    np.testing.assert_array_equal(load_image(out), np.asarray(wanted.overlay()))


# --- bad input

FINE = np.zeros((20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "expression", "options", "message"),
    [
        (FINE, "", {}, "the expression is blank"),
        (FINE, " \t\n", {}, "the expression is blank"),
        (FINE, None, {}, "the expression is blank"),
        (FINE.astype(float), "cat", {}, "not float64 (20, 30, 3)"),
        (FINE.astype(bool), "cat", {}, "not bool (20, 30, 3)"),
        (FINE[:0], "cat", {}, "not uint8 (0, 30, 3)"),
        (FINE[0, 0], "cat", {}, "not uint8 (3,)"),
        (FINE[None], "cat", {}, "not uint8 (1, 20, 30, 3)"),
        (FINE.transpose(2, 0, 1), "cat", {}, "should have 3 or 4 channels last, not shape (3, 20"),
        (FINE[..., :2], "cat", {}, "should have 3 or 4 channels last, not shape (20, 30, 2)"),
        ("none.png", "cat", {}, "no image file at none.png"),
        (Path(__file__), "cat", {}, "is not an image that Pillow can read"),
        (FINE, "cat", {"profile": "papre"}, "unknown profile 'papre'"),
        (FINE, "cat", {"alpah": 1}, "unknown setting 'alpah': did you mean 'alpha'"),
        (FINE, "cat", {"alpha": -1.0}, "alpha = -1.0: should be"),
        (FINE, "cat", {"encoders": ["open_clip:embedded/clip"]}, "unknown checkpoint"),
        (FINE, "cat", {"captioner": "blip:embedded/blip2"}, "unknown kind of captioner 'blip'"),
    ],
)
def test_bad_input(
    segment: Segment, image: object, expression: object, options: dict, message: str
) -> None:
    with pytest.raises(InputError) as error:
        segment(image, expression, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_answer_shows_itself_in_a_notebook() -> None:
    """The picture with the mask, and the table, in which no text is taken for HTML or a formula."""
    image = np.full((600, 1200, 3), 90, np.uint8)
    mask = np.zeros((600, 1200), bool)
    mask[:300, :600] = True
    row = {**dict.fromkeys(COLUMNS, 0.123456), "mask_id": 7, "caption": "<i>a cat</i>"}
    result = Segmentation(image, '<b>"$5" or $6</b>', mask[None], pd.DataFrame([row]))
    assert repr(result) == (
        "Segmentation('<b>\"$5\" or $6</b>': 25.0 % of 1200 x 600 pixels, chosen from 1 mask)"
    )
    page = BeautifulSoup(result._repr_html_(), "html.parser")
    assert page.p.text == '“<b>"$5" or $6</b>”' == f"“{page.img['alt']}”"
    assert not page.find_all(["b", "i"])
    assert "tex2jax_ignore" in page.div["class"]
    assert [cell.text for cell in page.find_all("th")] == COLUMNS
    assert "<i>a cat</i>" in page.table.text and "0.123" in page.table.text
    encoded = page.img["src"].removeprefix("data:image/png;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert shown.shape == (480, 960, 3)  # photographs are scaled down
    assert (shown[100, 100] != 90).any() and (shown[400, 800] == 90).all()


def test_an_answer_without_proposals_shows_itself() -> None:
    nothing = Segmentation(
        np.zeros((4, 5, 3), np.uint8),
        "cat",
        np.zeros((0, 4, 5), bool),
        pd.DataFrame(columns=COLUMNS),
    )
    assert "0.0 % of 5 x 4 pixels, chosen from 0 masks" in repr(nothing)
    assert "<img" in nothing._repr_html_()
