"""A sweep runs its variants, shares what is stored, survives failures, and resumes."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from finished_runs import make_run
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tasnb.reruns import overview, plan, sweep
from tasnb.workbook import runner

VIT = "open_clip:embedded/clip-vit"
PARAMETERS = """\
datasets: list[str] = []
splits: list[str] = []
limit: int = 0
store: str = ""
out: str = ""
alpha: float = 0.1
changes: dict = {}
"""
CELL = """\
import pandas as pd
import tasnb
from tasnb.datasets.splits import columns
from tasnb.results import analysis, shown, tables

pipeline = tasnb.start(globals())
if alpha == 0.3 and not __import__("os").path.exists(store + "/mended"):
    raise tasnb.InputError("alpha 0.3 is broken")
found = [
    tables.rows("table1", m, e, *c, tables.outcome(pipeline, m, e, *c))
    for c in columns(pipeline.settings) for e in pipeline.settings.encoders for m in tables.OWN
]
shown.save(pd.concat(found), "table1", pipeline.settings)
analysis.save_per_sentence(pipeline)
"""
FEW = {"datasets": ["refscenes"], "splits": ["val"], "limit": 3}


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    write(new_notebook(cells=[first, new_code_cell(CELL)]), folder / "05_full_eval.ipynb")
    monkeypatch.setattr(runner, "NOTEBOOKS", folder)


@pytest.mark.slow
def test_a_sweep_of_three_variants(notebooks, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(overview, "ROOT", tmp_path)
    out = tmp_path / "runs" / "sweeps" / "x"
    changes = {"points_per_side": 4, "encoders": [VIT], "shard_size": 1}
    base = {**FEW, "store": str(tmp_path / "store"), **changes}
    found = {f"alpha={alpha}": {"alpha": alpha} for alpha in (0, 0.3, 0.025)}
    made = plan.make(["05"], base, found, str(out))
    page, failed = sweep.run(made)
    assert list(failed) == ["alpha=0.3"] and "alpha 0.3 is broken" in failed["alpha=0.3"]
    assert json.loads((out / plan.SWEEP).read_text())["status"] == "failed"
    listed = (tmp_path / "runs" / "index.html").read_text()  # after each variant
    assert "sweeps/x/alpha=0<" in listed and "sweeps/x/alpha=0.025<" in listed
    frame = pd.read_csv(out / "sweep.csv")
    assert frame["alpha"].tolist() == [0, 0.3, 0.025]
    assert frame["encoder"].tolist() == ["clip-vit", "failed", "clip-vit"]
    first, _, last = frame.to_dict("records")
    assert first["in passes"] > 0 and last["in passes"] < 0.2 * first["in passes"]
    assert first["CLIP-only mIoU"] == last["CLIP-only mIoU"] > 0
    table = pd.read_csv(out / "alpha=0.025" / "tables" / "table1.csv")
    own = table[(table["method"] == "TAS") & (table["metric"] == "mIoU")]
    assert last["TAS mIoU"] == pytest.approx(own["value"].item(), abs=1e-3)
    assert last["difference"] == pytest.approx(last["TAS mIoU"] - first["TAS mIoU"], abs=1e-3)
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert "alpha=0.3: alpha 0.3 is broken" in html.select(".stale li")[0].text
    links = [link["href"] for link in html.select("td a")]
    assert links == ["alpha%3D0/index.html", "alpha%3D0.025/index.html"]
    assert "<td>0.025</td>" in str(html) and "limit = 3" in html.text
    with Image.open(out / "figures" / "sweep.png") as picture:
        assert picture.width > 300

    (tmp_path / "store" / "mended").touch()
    capfd.readouterr()
    assert sweep.run(made)[1] == {}
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.endswith("up to date") for line in lines) == 2  # the others are not run again
    assert pd.read_csv(out / "sweep.csv")["TAS mIoU"].notna().all()
    assert json.loads((out / plan.SWEEP).read_text())["status"] == "ok"


def test_the_table_of_finished_and_missing_variants(notebooks, tmp_path):
    """Pooled over the columns of Table 1, paired with the first variant that finished."""
    found = {f"alpha={alpha}": {"alpha": alpha} for alpha in (0, 0.1, 0.2, 0.4)}
    made = plan.make(["05"], {}, found, str(tmp_path / "out"))
    cats = [(f"image {k}", "the cat", 1, 50, 100) for k in range(8)]
    for variant, inter in zip(made.variants[1:3], (50, 60), strict=True):
        more = [(image, text, 1, inter, 100) for image, text, *_ in cats]
        some = {"refscenes-val": more, "refscenes-testA": cats, "phrasescenes-test": more}
        make_run(variant.folder, some, alpha=variant.values["alpha"])
    make_run(made.variants[3].folder, {}, alpha=0.4)
    frame = sweep.table(made, {"alpha=0": "it failed"})
    assert frame["encoder"].tolist() == [
        "failed", "clip-vit", "clip-vit", "no results per sentence: notebook 05 was not run",
    ]  # fmt: skip
    assert frame["TAS mIoU"].dropna().tolist() == pytest.approx([50, 55])
    assert frame["sentences"].dropna().tolist() == [16, 16]
    assert frame["difference"].dropna().tolist() == pytest.approx([5])
    assert frame["seconds"].dropna().tolist() == [2, 2, 2]
    page = sweep.write(made, {"alpha=0": "it failed"})
    assert "first variant, alpha=0.1, on the sentences" in page.read_text(encoding="utf-8")
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    rows = [[cell.text for cell in line.select("th, td")] for line in html.select("tr")]
    assert rows[0][:5] == ["variant", "encoder", "TAS mIoU", "95 % interval", "difference"]
    assert rows[2][4] == "" and rows[3][2:5] == ["55.00", "55.00\u00a0to\u00a055.00", "5.00"]
    assert "encoders" not in rows[0] and "alpha" in rows[0]


def test_a_sweep_without_results_has_a_table_and_no_picture(notebooks, tmp_path):
    found = {name: {"alpha": alpha} for name, alpha in (("a", 0), ("b", 0.2))}
    made = plan.make(["05"], {}, found, str(tmp_path / "out"))
    page = sweep.write(made, {})
    assert "<img" not in page.read_text() and not (tmp_path / "out" / "figures").exists()
