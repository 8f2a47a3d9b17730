"""The runner on small notebooks; those of the project run in test_notebooks.py."""

from __future__ import annotations

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from nbformat import read, write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tasnb.settings import InputError
from tasnb.workbook.kernels import ProgressBars, check_kernel
from tasnb.workbook.runner import NotebookFailed, check, run, select

COMMON = 'out: str = ""\nstore: str = ""\n'
TABLE = """\
from pathlib import Path
from tqdm import tqdm
for kind in ("tables", "figures"):
    Path(out, kind).mkdir(parents=True, exist_ok=True)
for _ in tqdm(range(3), desc="alphas"):
    pass
Path(out, "tables/table1.csv").write_text(f"method,value\\nTAS,{alpha}\\n")
Path(out, f"figures/alpha_{alpha}.png").write_bytes(b"")
"""


def make(path, *cells, parameters=COMMON):
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Title"), first, *map(new_code_cell, cells)]
    write(new_notebook(cells=cells), path)


@pytest.fixture
def place(tmp_path):
    """Folders of notebooks, results and data, and the parameters that lead there."""
    (tmp_path / "notebooks").mkdir()
    card = tmp_path / "data/embedded/checkpoints/sam/card.json"
    card.parent.mkdir(parents=True)
    card.write_text('{"files": {}}')
    place = {"out": tmp_path / "{out} put", "store": tmp_path / "store", "data": tmp_path / "data"}
    return tmp_path / "notebooks", {name: str(folder) for name, folder in place.items()}


def test_select(place):
    folder, _ = place
    for name in ("02_two", "01_one", "notes", "10_ten"):
        make(folder / f"{name}.ipynb")
    assert [book.name for book in select(folder=folder)] == ["01_one", "02_two", "10_ten"]
    chosen = select(["10", "01_one", "01"], folder)
    assert [book.name for book in chosen] == ["01_one", "10_ten"]
    with pytest.raises(InputError, match=r"^unknown notebook '03': choose from 01_one, 02_two"):
        select(["03"], folder)
    with pytest.raises(InputError, match=r"no notebooks in .*clone the repository"):
        select(folder=folder / "none")


@pytest.mark.slow
def test_run_skips_what_is_up_to_date(place, tmp_path, capfd):
    folder, where = place
    make(folder / "01_table.ipynb", TABLE, parameters=COMMON + "alpha: float = 0.1\n")
    make(folder / "02_other.ipynb", "print(6 * 7)")
    books, out = select(folder=folder), tmp_path / "{out} put"

    def go(**overrides):
        index = run(select(folder=folder), {**where, **overrides})
        assert index == out / "index.html"
        lines = capfd.readouterr()
        ran = [line.split()[1] for line in lines.out.splitlines() if line.endswith(" s")]
        return [name.strip(":") for name in ran], lines.err

    ran, progress = go()
    assert ran == ["01_table", "02_other"]
    assert progress.count("alphas: 100%") == 1 and progress.count("\n") == 1
    assert (out / "tables/table1.csv").read_text() == "method,value\nTAS,0.1\n"
    executed = read(out / "notebooks/02_other.ipynb", as_version=4)
    assert [o.text for cell in executed.cells for o in cell.get("outputs", [])] == ["42\n"]
    bar = read(out / "notebooks/01_table.ipynb", as_version=4).cells[-1].outputs[0].text
    assert bar.count("alphas:") == 1 and "3/3" in bar
    record = json.loads((out / "notebooks/01_table.run.json").read_text())
    assert record["parameters"] == {"out": where["out"], "store": where["store"], "alpha": 0.1}
    assert record["notebook"] == books[0].digest and record["status"] == "ok"
    assert list(record["outputs"]) == ["tables/table1.csv", "figures/alpha_0.1.png"]
    whole = json.loads((out / "run.json").read_text())
    assert list(whole["notebooks"]) == ["01_table", "02_other"]
    assert "notebooks/01_table.html" in (out / "index.html").read_text()
    assert sorted(os.listdir(out / "notebooks")) == [
        f"{name}.{end}"
        for name in ("01_table", "02_other")
        for end in ("html", "ipynb", "run.json")
    ]
    index = (out / "index.html").read_text()

    assert go() == ([], "")
    assert (out / "index.html").read_text() == index
    assert go(alpha=0.2)[0] == ["01_table"]  # the other one has no alpha
    assert os.listdir(out / "figures") == ["alpha_0.2.png"]
    (out / "tables/table1.csv").write_text("altered")
    assert go(alpha=0.2)[0] == ["01_table"]
    make(folder / "02_other.ipynb", "print(7 * 7)")
    assert go(alpha=0.2)[0] == ["02_other"]
    (tmp_path / "data/embedded/checkpoints/sam/card.json").write_text('{"files": {"a": "b"}}')
    (tmp_path / "data/embedded/build.py").write_text("pass")
    assert go(alpha=0.2)[0] == ["01_table", "02_other"]


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        (["1", "1 / 0"], NotebookFailed, "03_x, cell 4: ZeroDivisionError: division by zero (see "),
        (["import sys; sys.exit(0)", "1"], NotebookFailed, "03_x ended before its last cell (see "),
        (
            ["import os; os.write(2, b'no memory'); os._exit(1)", "1"],
            NotebookFailed,
            "03_x: Kernel died no memory",
        ),
        (
            ["class InputError(ValueError): pass", "raise InputError('no\\nimage')"],
            InputError,
            "no image (03_x, cell 4)",
        ),
    ],
)
def test_failed_notebook(place, tmp_path, cells, error, message):
    folder, where = place
    notebooks = tmp_path / "{out} put" / "notebooks"
    notebooks.mkdir(parents=True)
    (notebooks / "03_x.run.json").write_text('{"status": "ok", "outputs": {}}')
    make(folder / "03_x.ipynb", *cells)
    with pytest.raises(error) as caught:
        run(select(folder=folder), where)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert os.listdir(notebooks) == ["03_x.failed.ipynb"]
    assert not (tmp_path / "{out} put" / "run.json").exists()


def test_nothing_runs_before_all_parameters_are_checked(place, tmp_path):
    folder, where = place
    make(folder / "01_x.ipynb", "open('ran', 'w')")
    make(folder / "02_y.ipynb", parameters=COMMON + "alpha: float = 0.1\n")
    make(folder / "03_z.ipynb", parameters="own: int = 1\n")
    for bad in ({"alpha": "0.1"}, {"own": 0.5}):
        with pytest.raises(InputError, match=f"{next(iter(bad))} = .*: should be"):
            run(select(folder=folder), {**where, **bad})
    assert sorted(os.listdir(tmp_path)) == ["data", "notebooks"]


def test_prepare_only(place, tmp_path):
    folder, where = place
    make(folder / "01_x.ipynb", "1 / 0")
    target = run(select(folder=folder), {**where, "alpha": 0.3}, prepare_only=True)
    assert os.listdir(target) == ["01_x.prepared.ipynb"]
    prepared = read(target / "01_x.prepared.ipynb", as_version=4)
    assert f'out = "{where["out"]}"' in prepared.cells[2].source
    assert "alpha" not in prepared.cells[2].source
    assert prepared.cells[-1].execution_count is None


def test_output_that_cannot_be_written(place, tmp_path):
    folder, where = place
    make(folder / "01_x.ipynb", "1 / 0")
    (tmp_path / "file").write_text("")
    for name in ("out", "store"):
        with pytest.raises(InputError, match=r"^cannot write .*choose a folder"):
            run(select(folder=folder), {**where, name: str(tmp_path / "file" / "below")})


@pytest.mark.slow
def test_one_run_at_a_time_in_a_folder(place, tmp_path, capfd):
    """The second is told at once and disturbs nothing; afterwards the folder is free."""
    folder, parameters = place
    make(folder / "01_one.ipynb", "import time\ntime.sleep(6)")
    books = select(folder=folder)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, books, parameters)
        while not (tmp_path / "{out} put/notebooks/01_one.tmp.ipynb").exists():
            assert not first.done()
            time.sleep(0.1)
        with pytest.raises(InputError, match=r"another run is writing to .*choose another folder"):
            run(books, parameters)
        assert first.result().is_file()
    run(books, parameters)
    assert "01_one: up to date" in capfd.readouterr().out


def test_kernel_of_another_python(tmp_path, monkeypatch):
    check_kernel()
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(
        '{"argv": ["/opt/other/bin/python"], "display_name": "x", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    with pytest.raises(InputError, match=r"is /opt/other/bin/python, not .*ipykernel install"):
        check_kernel()


class Terminal(io.StringIO):
    def isatty(self):
        return True


KERNEL_SAYS = [
    "a warning\n",
    "\rmasks:   0%|          | 0/2 [00:00<?, ?/s]",
    "\rmasks:  50%|#####     | 1/2 [00:01<?, ?/s]\rmasks: 100%|##########| 2/2 [00:02<?, ?/s]",
    "\rmasks: 100%|##########| 2/2 [00:02<?, ?/s]",
    "\n",
    "\rtexts: 100%|##########| 9/9 [00:01<?, ?/s]\n",
]


def test_bars_move_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    bars = ProgressBars(terminal)
    for text in KERNEL_SAYS:
        bars.write(text)
    end = "\x1b[K"
    assert terminal.getvalue() == (
        f"\r  masks:   0%|          | 0/2 [00:00<?,{end}"
        f"\r  masks:  50%|#####     | 1/2 [00:01<?,{end}"
        f"\r  masks: 100%|##########| 2/2 [00:02<?,{end}\n"
        f"\r  texts: 100%|##########| 9/9 [00:01<?,{end}\n"
    )


def test_bars_are_lines_elsewhere():
    log = io.StringIO()
    bars = ProgressBars(log)
    for text in KERNEL_SAYS:
        bars.write(text)
    assert [line.split("|")[0] for line in log.getvalue().splitlines()] == [
        "  masks: 100%",
        "  texts: 100%",
    ]


# --- what has changed since


@pytest.mark.slow
def test_check_says_what_has_changed(place, tmp_path):
    folder, where = place
    parameters = COMMON + "alpha: float = 0.1\nchanges: dict = {}\n"
    make(folder / "01_table.ipynb", TABLE, parameters=parameters)
    make(folder / "02_other.ipynb", "print(6 * 7)")
    out = tmp_path / "{out} put"

    def found(**overrides):
        return check(select(folder=folder), {**where, **overrides})

    assert found() == {name: ["has not been run to the end"] for name in ("01_table", "02_other")}
    run(select(folder=folder), {**where, "alpha": 0.2})
    index = (out / "index.html").stat().st_mtime_ns
    assert found() == {"01_table": [], "02_other": []}  # alpha as it was
    assert found(alpha=0.3)["01_table"] == ["was run with alpha 0.2, now 0.3"]
    (out / "tables/table1.csv").write_text("altered")
    (out / "figures/alpha_0.2.png").unlink()
    make(folder / "02_other.ipynb", "print(7 * 7)")
    assert found() == {
        "01_table": ["tables/table1.csv was modified", "figures/alpha_0.2.png is missing"],
        "02_other": ["the notebook changed"],
    }
    (tmp_path / "data/embedded/checkpoints/sam/card.json").write_text('{"files": {"a": "b"}}')
    record = json.loads((out / "notebooks/02_other.run.json").read_text())
    record["versions"]["torch"] = "1.0"
    (out / "notebooks/02_other.run.json").write_text(json.dumps(record))
    first, *others = found()["02_other"]
    assert first.startswith("was run on torch 1.0, now ") and others == [
        "the notebook changed",
        "the data changed",
    ]
    assert (out / "index.html").stat().st_mtime_ns == index  # nothing has run


@pytest.mark.slow
def test_the_report_names_notebooks_of_earlier_runs(place, tmp_path):
    folder, where = place
    make(folder / "01_table.ipynb", TABLE, parameters=COMMON + "alpha: float = 0.1\n")
    make(folder / "02_other.ipynb", "print(6 * 7)")
    make(folder / "03_gone.ipynb", "print(6 * 7)")
    run(select(folder=folder), where)
    (folder / "03_gone.ipynb").unlink()
    index = run(select(["02"], folder), {**where, "alpha": 0.2})
    earlier = json.loads((tmp_path / "{out} put/run.json").read_text())["earlier"]
    assert earlier == {
        "01_table": ["was run with alpha 0.1, now 0.2"],
        "03_gone": ["its notebook no longer exists"],
    }
    assert "01_table: was run with alpha 0.1, now 0.2" in index.read_text()
    (folder / "03_gone.ipynb").write_text((folder / "02_other.ipynb").read_text())
    assert "From an earlier run" not in run(select(["02", "03"], folder), where).read_text()


def test_kernels_know_that_they_are_the_runner_s(place, tmp_path):
    folder, where = place
    cell = (
        "import os\nfrom pathlib import Path\nPath(out, 'said').write_text(os.environ['TASNB_RUN'])"
    )
    make(folder / "01_x.ipynb", cell)
    run(select(folder=folder), where)
    assert (tmp_path / "{out} put/said").read_text() == "1"
    assert "TASNB_RUN" not in os.environ


def test_times_and_shards_of_a_kernel_are_recorded(place, tmp_path):
    folder, where = place
    told = {"stages": 2, "passes": 1, "shards": ["a/b/shard-c.json"]}
    cell = f"import os\nos.write(int(os.environ['TASNB_TIMES']), {json.dumps(told).encode()!r})"
    make(folder / "01_x.ipynb", cell)
    run(select(folder=folder), where)
    record = json.loads((tmp_path / "{out} put/run.json").read_text())
    assert record["notebooks"]["01_x"]["times"] == {"stages": 2, "passes": 1}
    assert "shards" not in record["notebooks"]["01_x"]  # there may be thousands
    file = tmp_path / "{out} put/notebooks/01_x.run.json"
    assert json.loads(file.read_text())["shards"] == told["shards"]


@pytest.mark.slow
def test_pages_of_sentences_of_an_earlier_choice_go(place, tmp_path):
    """A page of a split that is no longer part of the run would be linked in its report."""
    folder, where = place
    cell = "from pathlib import Path\nPath(out, 'results').mkdir(exist_ok=True)\n"
    cell += "Path(out, f'results/{split}.html').write_text('')"
    make(folder / "01_x.ipynb", cell, parameters=COMMON + 'split: str = "val"\n')
    run(select(folder=folder), where)
    run(select(folder=folder), {**where, "split": "testA"})
    assert os.listdir(tmp_path / "{out} put/results") == ["testA.html"]


@pytest.mark.slow
def test_a_figure_that_another_notebook_draws_now_stays(place, tmp_path):
    folder, where = place
    draw = """
from pathlib import Path
Path(out, "figures").mkdir(parents=True, exist_ok=True)
Path(out, "figures/x.png").write_text(str(alpha))
"""
    parameters = COMMON + "alpha: float = 0.1\n"
    make(folder / "01_first.ipynb", "1 + 1", parameters=parameters)
    make(folder / "02_second.ipynb", draw, parameters=parameters)
    run(select(folder=folder), where)
    make(folder / "01_first.ipynb", draw, parameters=parameters)
    make(folder / "02_second.ipynb", "1 + 1", parameters=parameters)
    run(select(folder=folder), where)
    assert (tmp_path / "{out} put/figures/x.png").is_file()
    assert check(select(folder=folder), where) == {"01_first": [], "02_second": []}
