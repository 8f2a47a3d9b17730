from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import tasnb
from tasnb.datasets.splits import ablated, columns, stand_in
from tasnb.profiles import DATASETS, PROFILES, RECIPES
from tasnb.settings import (
    ROOT,
    InputError,
    Settings,
    check_whole,
    make_settings,
    short,
    unknown,
)


def test_defaults_are_those_of_the_paper():
    settings = make_settings()
    assert (settings.alpha, settings.lam, settings.lam_g) == (0.1, 0.7, 1.0)
    assert settings.points_per_side == 8
    fields = Settings.model_fields
    assert fields["pred_iou_thresh"].default == fields["stability_score_thresh"].default == 0.7
    # the small SAM of the embedded profile has its own thresholds
    assert settings.pred_iou_thresh == settings.stability_score_thresh == 0.4
    assert (settings.caption_input, settings.clip_input) == ("blur", "crop")


def test_the_profile_paper_has_the_papers_settings():
    """Copied from section 4.2, the captions of the tables, and the authors' code for the rest."""
    settings = make_settings("paper")
    expected = {
        "recipe": "published", "datasets": ("refcoco", "refcoco+", "refcocog", "phrasecut"),
        "proposal_network": "sam:vit_h", "points_per_side": 8, "pred_iou_thresh": 0.7,
        "stability_score_thresh": 0.7, "min_mask_region_area": 800.0, "min_mask_area": 2000.0,
        "areas_of": None, "captioner": "blip2:Salesforce/blip2-opt-2.7b", "num_beams": 5,
        "max_new_tokens": 30, "encoders": ("open_clip:RN50/openai", "open_clip:ViT-B-32/openai"),
        "caption_input": "blur", "clip_input": "crop", "blur_kernel": 75, "alpha": 0.1, "lam": 0.7,
        "lam_g": 1.0, "both_recipes": True, "timed_images": 500,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in expected} == expected
    lambdas = [settings.lambda_of(dataset) for dataset in settings.datasets]
    assert lambdas == [0.7, 0.7, 1.0, 0.7]


def test_pixels_are_absolute_on_photographs_only():
    for profile in PROFILES:
        for recipe, proportional in (("published", profile == "embedded"), ("released", False)):
            settings = make_settings(profile, recipe=recipe)
            assert settings.pixels_on(settings.min_mask_region_area, 480, 640) == 800
            small = settings.pixels_on(settings.min_mask_region_area, 240, 320)
            assert small == (200 if proportional else 800)


def test_a_limit_draws_photographs_at_random():
    assert make_settings().sample == "first"
    for profile in set(PROFILES) - {"embedded"}:
        assert make_settings(profile).sample == "random"
    assert make_settings("paper").images_used == "all images"
    said = [make_settings(profile, limit=9).images_used for profile in ("embedded", "paper")]
    assert said == [
        "the first 9 images of each split",
        "9 images of each split, drawn at random",
    ]


def test_the_other_recipe_keeps_what_was_changed_by_hand():
    for recipe, other in (("published", "released"), ("released", "published")):
        settings = make_settings(recipe=recipe, alpha=0.3, subset_overlap=0.6, out="elsewhere")
        found = settings.in_recipe(other)
        assert found == make_settings(recipe=other, alpha=0.3, subset_overlap=0.6, out="elsewhere")
        assert found.in_recipe(recipe) == settings
    assert make_settings("lite").in_recipe("released") == make_settings("lite", recipe="released")


def test_columns_are_those_of_tables_1_and_2():
    assert columns(make_settings()) == [
        ("refscenes", "val"),
        ("refscenes", "testA"),
        ("refscenes", "testB"),
        ("refscenes+", "val"),
        ("refscenes+", "testA"),
        ("refscenes+", "testB"),
        ("refscenesg", "val(U)"),
        ("refscenesg", "test(U)"),
        ("refscenesg", "test(G)"),
        ("phrasescenes", "test"),
    ]


def test_every_profile_and_recipe_makes_settings():
    for profile in PROFILES:
        for recipe in RECIPES:
            settings = make_settings(profile, recipe=recipe)
            assert len(columns(settings)) == 10
            again = make_settings(**json.loads(json.dumps(settings.model_dump(mode="json"))))
            assert again == settings


def test_columns_by_their_part_in_the_paper():
    assert ablated(make_settings()) == ("refscenes", "val")
    assert ablated(make_settings(datasets=["phrasescenes"])) == ("refscenes", "val")
    assert ablated(make_settings("paper")) == ("refcoco", "val")
    found = stand_in(make_settings("paper"), "RefCOCOg", "val(U)")
    assert found == ("refcocog", "val(U)")


def test_columns_of_chosen_splits():
    chosen = make_settings(splits=["testA", "test"])
    assert columns(chosen) == [
        ("refscenes", "testA"),
        ("refscenes+", "testA"),
        ("phrasescenes", "test"),
    ]


def test_lambda_is_larger_on_the_g_family():
    settings = make_settings(lam=0.5, lam_g=0.9)
    assert [settings.lambda_of(dataset) for dataset in DATASETS] == [0.5, 0.5, 0.9, 0.5] * 2


def test_what_json_cannot_say_is_accepted():
    settings = make_settings(
        datasets=["refscenes"], encoders=["open_clip:x"], areas_of=[320, 240], alpha=1
    )
    assert settings.datasets == ("refscenes",)
    assert settings.encoders == ("open_clip:x",)
    assert settings.areas_of == (320, 240)
    assert settings.alpha == 1.0 and type(settings.alpha) is float


def test_survives_json():
    settings = make_settings(alpha=0.2, out="elsewhere", limit=3, areas_of=None)
    again = make_settings(**json.loads(json.dumps(settings.model_dump(mode="json"))))
    assert again == settings


def test_empty_means_the_default():
    assert make_settings(limit=0) == make_settings(limit=None) == make_settings()
    assert make_settings(datasets=[], out="", store="", data="") == make_settings()


def test_folders_start_at_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = make_settings(store="here/store")
    assert settings.store == ROOT / "here" / "store"
    assert settings.out == ROOT / "runs" / "embedded"
    assert settings.data == ROOT / "data"
    assert make_settings(out=str(tmp_path)).out == tmp_path
    assert make_settings(out="~/x").out == Path.home() / "x"


def test_frozen():
    with pytest.raises(ValidationError):
        make_settings().alpha = 0.2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"alpha": "0.1"}, "alpha = '0.1': should be a valid number"),
        ({"alpha": True}, "alpha = True: should be a valid number"),
        ({"alpha": -0.1}, "alpha = -0.1: should be greater than or equal to 0"),
        ({"alpha": float("nan")}, "alpha = nan: should be a finite number"),
        ({"lam": float("inf")}, "lam = inf: should be a finite number"),
        ({"pred_iou_thresh": 1.5}, "pred_iou_thresh = 1.5: should be less than or equal to 1"),
        ({"points_per_side": 1.5}, "points_per_side = 1.5: should be a valid integer"),
        ({"points_per_side": 0}, "points_per_side = 0: should be greater than or equal to 1"),
        ({"limit": -2}, "limit = -2: should be greater than or equal to 1"),
        ({"limit": True}, "limit = True: should be a valid integer"),
        ({"limit": "3"}, "limit = '3': should be a valid integer"),
        ({"blur_kernel": 74}, "blur_kernel = 74: should be an odd number of pixels"),
        ({"caption_input": "blr"}, "caption_input = 'blr': should be 'blur' or 'crop'"),
        ({"datasets": "refscenes"}, "datasets = 'refscenes': should be a list"),
        ({"datasets": ["refscenes", 1]}, "datasets[1] = 1: should be a valid string"),
        ({"areas_of": [640, 0.5]}, "areas_of[1] = 0.5: should be a valid integer"),
        ({"store": 5}, "store = 5: should be the path of a folder"),
        (
            {"encoders": []},
            "encoders is empty: give at least one model, such as open_clip:embedded/clip-vit",
        ),
        (
            {"captioner": "blip2"},
            "'blip2' is not a model name: write library:name, such as open_clip:embedded/clip-vit",
        ),
        (
            {"profile": "papers"},
            "unknown profile 'papers': did you mean 'paper'? choose from embedded, paper, lite, "
            "modern",
        ),
        (
            {"recipe": "publish"},
            "unknown recipe 'publish': did you mean 'published'? choose from published, released, "
            "extended",
        ),
        (
            {"datasets": ["refscene+"]},
            "unknown dataset 'refscene+': did you mean 'refscenes+' or 'refscenes'? "
            "choose from refcoco, refcoco+, refcocog, phrasecut, refscenes, refscenes+, "
            "refscenesg, phrasescenes",
        ),
        (
            {"datasets": ["refscenes"], "splits": ["testa"]},
            "unknown split 'testa': did you mean 'testA'? choose from val, testA, testB",
        ),
        (
            {"datasets": ["phrasescenes"], "splits": ["val"]},
            "unknown split 'val': choose from test",
        ),
    ],
)
def test_bad_value_is_one_line(overrides, message):
    with pytest.raises(InputError) as caught:
        make_settings(**overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["TESTB", "testb", "tESTb"])
def test_the_nearest_name_is_the_same_in_other_letters(name):
    assert "did you mean 'testB'? " in str(unknown("split", name, ["testA", "testB", "test"]))


@pytest.mark.parametrize("value", [-1, 8, 99999, True, 1.0, "1", None])
def test_whole_numbers_in_a_range(value):
    check_whole("sentence", 0, 0, 7)
    check_whole("sentence", 7, 0, 7)
    with pytest.raises(InputError, match=r"^sentence = .*: should be a whole number from 0 to 7$"):
        check_whole("sentence", value, 0, 7)


def test_a_whole_number_without_an_upper_end():
    check_whole("few", 10**9, 1)
    with pytest.raises(InputError, match=r"^few = 0: should be a whole number of 1 or more$"):
        check_whole("few", 0, 1)


def test_what_differs_from_profile_and_recipe():
    assert make_settings("paper").changed == {}
    assert make_settings(recipe="released", alpha=0.2, limit=0).changed == {"alpha": 0.2}
    given = {"splits": ["val"], "store": "/x", "out": "/y", "data": "/z", "workers": 2}
    assert make_settings(**given).changed == {"splits": ("val",)}


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match=r"^unknown setting 'alpah': did you mean 'alpha'\? ") as e:
        make_settings(alpah=0.1)
    assert "\n" not in str(e.value)


def test_long_and_broken_values_stay_short_and_on_one_line():
    with pytest.raises(InputError) as caught:
        make_settings(seed="a\nb" * 1000)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 100
    assert "\n" not in str(unknown("thing", "a\nb", ["c"]))


def test_every_field_has_a_default():
    assert Settings() == make_settings("embedded")


def test_public_names():
    assert tasnb.make_settings is make_settings
    assert tasnb.InputError is InputError
    assert set(tasnb.__all__) <= set(dir(tasnb))
    with pytest.raises(AttributeError, match="no attribute 'sgement'"):
        tasnb.sgement  # noqa: B018


def test_import_is_light():
    code = (
        "import sys, tasnb, tasnb.settings; print(*{'torch', 'pandas', 'spacy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_short_names_are_parts_of_file_names() -> None:
    for model, name in {
        "open_clip:embedded/clip-vit": "clip-vit",
        "open_clip:ViT-B-32/openai": "ViT-B-32-openai",
        "open_clip:RN50/openai": "RN50-openai",
        "albef:/data/my models/ALBEF.pth": "data-my-models-ALBEF.pth",
        "felzenszwalb": "felzenszwalb",
        "clip-rn": "clip-rn",
    }.items():
        assert short(model) == name
