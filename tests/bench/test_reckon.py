"""Operations and bytes of the real networks by hand, and the tables reckoned from them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tasnb.__main__ import main
from tasnb.bench import passes, reckon, shapes
from tasnb.bench.passes import Cost, Pass
from tasnb.fetch.sources import load_sources
from tasnb.settings import ROOT, InputError, make_settings

SLOW = pytest.mark.slow
BLIP2 = "blip2:Salesforce/blip2-opt-2.7b"
SIGLIP2 = "open_clip:ViT-SO400M-16-SigLIP2-384/webli"
INTERNVL = "hf:OpenGVLab/InternVL3-1B-hf"


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_a_pass_by_hand() -> None:
    """Two linear layers on 10 rows: 2 x 10 x 300 x 200 and 2 x 10 x 200 x 50 operations."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 50))
    given = meta(10, 300)
    done = passes.one_pass(model, lambda: model(given))
    assert done.flop == 2 * 10 * 300 * 200 + 2 * 10 * 200 * 50
    assert done.read == 4 * (300 * 200 + 200 + 200 * 50 + 50)
    assert done.peak == 4 * (10 * 200 * 2)  # the input and the output of the ReLU
    assert not done.half
    small = given.half()
    half = passes.one_pass(model.half(), lambda: model(small))
    assert half.half and half.read == done.read / 2 and half.peak == done.peak / 2


def test_memory_is_given_back() -> None:
    def steps() -> torch.Tensor:
        x = meta(1000)
        for _ in range(50):
            x = x.exp()  # the one before is dropped
        return x[:10].reshape(2, 5)  # a view, which takes no memory

    with passes._Peak() as peak:
        kept = steps()
    assert peak.most == 2 * 4000 and peak.now == 4000
    del kept
    assert peak.now == 0


def test_the_rate_or_the_bandwidth() -> None:
    machine = reckon.Machine(single=100, half=400, bandwidth=10, memory=1)
    slow = Cost(((Pass(flop=1000, read=1, peak=0), 0.5),), 0)
    wide = Cost(((Pass(flop=1000, read=300, peak=0, half=True), 1.0),), 0)
    assert reckon.seconds(slow, machine) * reckon.SHARE == pytest.approx(0.5 * 1000 / 100)
    assert reckon.seconds(wide, machine) * reckon.SHARE == pytest.approx(300 / 10)


@pytest.mark.parametrize(
    ("item", "of"),
    [
        ("sam-vit-b", lambda: shapes.proposals("sam:vit_b", 64)),
        pytest.param("sam-vit-h", lambda: shapes.proposals("sam:vit_h", 64), marks=SLOW),
    ],
)
def test_weights_are_as_large_as_the_published_files(item, of) -> None:
    published = next(one.size for one in load_sources().items if one.name == item)
    assert of().weights == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize(
    ("cost", "gigabytes"),
    [  # sizes of the files on the hub
        (lambda: shapes.crops("open_clip:ViT-B-32/openai", 2), 0.605),
        (lambda: shapes.captions("git:microsoft/git-base-coco", 1, 1, False), 0.707),
        pytest.param(lambda: shapes.crops("open_clip:RN50/openai", 2), 0.408, marks=SLOW),
        pytest.param(
            lambda: shapes.crops("blip2-itc:Salesforce/blip2-itm-vit-g", 1), 4.688,
            marks=SLOW,
        ),
        pytest.param(lambda: shapes.captions(BLIP2, 1, 1, False), 14.98, marks=SLOW),
        pytest.param(lambda: shapes.captions(INTERNVL, 1, 1, True), 1.88, marks=SLOW),
        pytest.param(lambda: shapes.crops(SIGLIP2, 1), 4.54, marks=SLOW),
    ],
)  # fmt: skip
def test_weights_of_other_models(cost, gigabytes) -> None:
    assert cost().weights / 1e9 == pytest.approx(gigabytes, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "gigabytes"), [("tiny", 0.156), ("large", 0.898)])
def test_weights_of_sam_2(size: str, gigabytes: float) -> None:
    """The published files also hold 7.5 million weights of the memory, which is for videos."""
    found = shapes.proposals(f"hf:facebook/sam2.1-hiera-{size}", 64)
    assert (found.weights + 4 * 7.5e6) / 1e9 == pytest.approx(gigabytes, rel=5e-3)


@pytest.mark.slow
def test_operations_of_modern_by_hand() -> None:
    """Two for each weight and patch, besides attention; a caption reads and writes its words."""
    crop, text = shapes.crops(SIGLIP2, 2).flop, shapes.texts(SIGLIP2).flop
    assert 1 < crop / (2 * 428e6 * 576) < 1.1  # 24 x 24 patches
    assert 1 < text / (2 * 413e6 * 64) < 1.1  # without the embeddings of words
    one, two = (shapes.captions(INTERNVL, batch, 1, True) for batch in (1, 2))
    image, first, others = (each for each, _ in one.passes)
    assert 1 < image.flop / (2 * 304e6 * 1025) < 1.2  # 32 x 32 patches and a class token
    assert 1 < first.flop / (2 * 358e6 * (256 + shapes.CHAT)) < 1.1
    assert 0.99 < others.flop / (2 * 494e6) < 1.1  # with the choice of the word
    assert others.read == pytest.approx(2 * 494e6, rel=0.01)
    assert two.flop == pytest.approx(one.flop, rel=1e-6) and two.memory > one.memory
    encoder, decoder = (one for one, _ in shapes.proposals("sam:vit_b", 64).passes)
    smaller, same = (one for one, _ in shapes.proposals("hf:facebook/sam2.1-hiera-tiny", 64).passes)
    assert 0.25 < smaller.flop / encoder.flop < 0.35
    assert same.flop == pytest.approx(decoder.flop, rel=0.02)


@pytest.mark.slow
def test_operations_as_others_count_them() -> None:
    """Multiply-adds: 4.4 G for CLIP's ViT-B/32, 6.1 G for RN50, 2,976 G for SAM's ViT-H."""
    clip = [shapes.crops(f"open_clip:{name}/openai", 2).flop for name in ("ViT-B-32", "RN50")]
    assert [x / 2e9 for x in clip] == pytest.approx([4.4, 6.1], abs=0.1)
    encoder, decoder = (one for one, _ in shapes.proposals("sam:vit_h", 64).passes)
    assert encoder.flop / 2e9 == pytest.approx(2976, rel=0.01)
    assert decoder.flop < encoder.flop / 10


@pytest.mark.slow
def test_half_precision_takes_half_the_memory() -> None:
    """But for BLIP-2's Q-Former, which stays in 32 bits: 7.7 GB instead of 15."""
    whole, half = (shapes.captions(BLIP2, 2, 5, half) for half in (False, True))
    assert half.flop == whole.flop
    assert half.weights / 1e9 == pytest.approx(7.7, abs=0.05)
    assert [one.half for one, _ in half.passes] == [True, False, True, True]
    assert not any(one.half for one, _ in whole.passes)
    more = shapes.captions(BLIP2, 4, 5, True)
    assert more.flop == pytest.approx(half.flop, rel=1e-6) and more.memory > half.memory


def test_models_whose_sizes_are_not_known() -> None:
    assert shapes.proposals("hf:facebook/sam2.1-hiera-unheard-of", 64) is None
    assert shapes.proposals("hf:some/network", 64) is None
    assert shapes.captions("hf:some/model", 1, 1, False) is None
    assert shapes.crops("open_clip:embedded/clip-vit", 1) is None
    assert shapes.parsing("en_core_web_sm") is None
    assert reckon._two(float("nan")) == "?"
    unknown = make_settings("lite", proposal_network="hf:some/network")
    found = {row[0]: row[1:] for row in reckon._seconds(unknown)}
    assert set(found["mask proposals (some-network)"]) == set(found["TAS"]) == {"?"}
    assert "?" not in found["captions of the masks (microsoft-git-base-coco)"]
    assert reckon._unknown(unknown) == ["hf:some/network"]
    assert [reckon._two(x) for x in (0.001, 0.123, 4.56, 12.3, 1234)] == [
        "under 0.01", "0.12", "4.6", "12", "1200"
    ]  # fmt: skip


def test_what_a_run_does_on_a_column() -> None:
    """Both recipes share the proposals and the captions of whole images, and nothing else."""
    items = {}
    for both in (False, True):
        settings = make_settings("lite", both_recipes=both)
        some = reckon.everything(settings, "refcoco", "testA")
        items[both] = {stage.name: stage.items for stage in some if stage.name != "all methods"}
    ratios = {name: items[True][name] / items[False][name] for name in items[True]}
    shared = {"mask proposals", "caption of the image", "other proposals"}
    assert {name for name, ratio in ratios.items() if ratio == 1} == shared
    assert {ratio for ratio in ratios.values() if ratio != 1} == {2}
    settings = make_settings("lite")
    machine = reckon.MACHINES["T4"]
    few, some = (reckon.hours(settings, machine, "refcoco+", limit) for limit in (10, 100))
    assert some == pytest.approx(10 * few)
    every = reckon.hours(settings, machine, "refcoco+")
    assert every == reckon.hours(settings, machine, "refcoco+", 10**6) > 7 * some


@pytest.mark.slow
def test_only_plain_towers_have_maps() -> None:
    """SigLIP 2's is timm's, so that the other methods of Table 1 leave it out."""
    assert shapes.has_maps("open_clip:RN50/openai") and shapes.has_maps("open_clip:ViT-B-32/openai")
    assert not shapes.has_maps(SIGLIP2) and not shapes.has_maps("albef:ALBEF.pth")
    for profile, more in (("lite", True), ("modern", False)):
        found = reckon.everything(make_settings(profile), "refcoco", "testA")
        items = [stage.items for stage in found if stage.name == "all methods"]
        assert len(items) == 2 and all((count > 0) is more for count in items)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--reckon", "--profile", "lite"]) == 0
    said = capsys.readouterr().out
    first, *_ = said.splitlines()
    assert first == "Profile lite, RECKONED from the shapes of the networks; nothing was measured."
    tables = [line for line in said.splitlines() if line.startswith("|")]
    assert all(name in tables[0] for name in reckon.MACHINES)
    names = [line.split(" | ")[0].strip("| ") for line in tables]
    assert names[2] == "mask proposals (vit_b)" and "TAS" in names and "PhraseCut" in names
    assert "?" not in said and "nan" not in said.lower()
    assert in_readme("lite") and all(row in rows(tables) for row in in_readme("lite"))


def rows(lines: list[str]) -> list[list[str]]:
    """The numbers in each row of a table in Markdown."""
    cells = ([cell.strip() for cell in line.strip("| ").split("|")[1:]] for line in lines)
    return [[cell for cell in some if cell] for some in cells]


def in_readme(profile: str) -> list[list[str]]:
    """The rows of README's table of a profile."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head = f"| {profile}, seconds per image |"
    lines = (head + text.partition(head)[2]).partition("\n\n")[0].splitlines()
    return rows(lines[2:])


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "count"), [("paper", 5), ("modern", 5)])
def test_readme_has_the_numbers_of_a_profile(profile: str, count: int) -> None:
    report = reckon.report(profile)
    assert "?" not in report and "nan" not in report.lower() and "Not reckoned" not in report
    said = rows([line for line in report.splitlines() if line.startswith("|")])
    if found := in_readme(profile):
        assert len(found) == count and all(row in said for row in found)
    else:
        assert profile == "modern"  # whose table README may leave to the command


def test_the_embedded_profile_is_measured_instead(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--profile lite, --profile paper or"):
        reckon.report("embedded")
    assert main(["bench", "--reckon", "--profile", "lite", "--out", "x.csv"]) == 2
    assert capsys.readouterr().err.strip() == "tasnb: --reckon only prints: leave out --out x.csv"
