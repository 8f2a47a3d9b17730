"""``tasnb.explore`` in JupyterLab, started for real, in a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, free_port
from explorer_page import answered, ask, check, rows
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from painted import PICTURES
from selenium.webdriver import Keys
from views import FIRST

from tasnb.settings import ROOT
from tasnb.workbook.spare import RUN

pytestmark = pytest.mark.slow
TOKEN = "for-this-test-only"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
OPTIONS = {
    "ServerApp.ip": "127.0.0.1",
    "ServerApp.open_browser": "False",
    "ServerApp.allow_root": "True",
    "IdentityProvider.token": TOKEN,
    "LabApp.expose_app_in_browser": "True",
    "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    "LabApp.news_url": "",
}


@pytest.fixture
def lab(shared_store: Path, tmp_path: Path) -> Iterator[str]:
    """The address of JupyterLab in a folder with a notebook of two explorers, one shown twice."""
    own = {**FIRST, "store": str(shared_store)}
    cells = [
        "import tasnb\n",
        f"tasnb.explore(**{own!r})",
        f"second = tasnb.explore({str(PICTURES[6])!r}, 'the animal', **{own!r})\nsecond",
        "second",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=KERNEL)
    write(notebook, tmp_path / "NB.ipynb")
    port = free_port()
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own_folders = {name: str(tmp_path / name) for name in (*folders, "JUPYTERLAB_SETTINGS_DIR")}
    environment = {**os.environ, **own_folders, "PYTHONPATH": str(ROOT)}
    environment.pop(RUN, None)
    options = {**OPTIONS, "ServerApp.port": str(port), "ServerApp.root_dir": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", *(f"--{k}={v}" for k, v in options.items())],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "lab.log").open("w"),
    )
    try:
        yield f"http://127.0.0.1:{port}/lab/tree/NB.ipynb?token={TOKEN}"
    finally:
        process.terminate()
        process.wait(60)


def test_the_widget(lab: str, browser: Browser, shared_store: Path) -> None:
    browser.until(lambda: browser.open(lab) or browser.run("return Boolean(window.jupyterapp);"),
                  "JupyterLab")  # fmt: skip
    browser.run("await jupyterapp.started; await jupyterapp.restored;")
    ready = "return jupyterapp.shell.currentWidget?.sessionContext?.isReady ?? false;"
    browser.until(lambda: browser.run(ready), "the kernel")
    browser.run("jupyterapp.commands.execute('notebook:run-all-cells');")
    explorers = "return document.querySelectorAll('.tasnb-explorer tbody tr').length > 0"
    both = f"{explorers} && document.querySelectorAll('.tasnb-explorer').length === 3;"
    browser.until(lambda: browser.run(both), "the explorers", 120)

    # the first explorer: an expression, a slider, the other recipe
    ask(browser, "the thing on the left")
    answered(browser, "the thing on the left")
    check(browser, shared_store, PICTURES[0], "the thing on the left")
    browser.set(".slider:nth-of-type(2) input", 1.5)
    check(browser, shared_store, PICTURES[0], "the thing on the left", lam=1.5)
    browser.set(".lists label:nth-of-type(1) select", "released")
    browser.until(lambda: "recipe released" in browser.text(".about"), "the other recipe")
    check(browser, shared_store, PICTURES[0], "the thing on the left", lam=1.5, recipe="released")
    browser.find(".tasnb-explorer input[type=file]").send_keys(str(PICTURES[5]))
    browser.until(lambda: "A picture of your own" in browser.text(".about"), "the picture")
    second = browser.all(".tasnb-explorer")[1]
    assert second.find_element("css selector", ".ask input").get_attribute("value") == "the animal"

    # one that two cells show is the same in both
    field = second.find_element("css selector", ".ask input")
    field.clear()
    field.send_keys("the dog", Keys.ENTER)
    inputs = "return [...document.querySelectorAll('.ask input[type=text]')].map(one => one.value);"
    browser.until(lambda: browser.run(inputs)[1:] == ["the dog", "the dog"], "both cells")

    # keys stay with the explorer, which JupyterLab would take for shortcuts
    cells = "return jupyterapp.shell.currentWidget.content.widgets.length;"
    before = browser.run(cells)
    for focused in ("button", ".slider input", ".switches input", ".lists select", "tbody tr"):
        browser.run("document.querySelector(`.tasnb-explorer ${args[0]}`).focus();", focused)
        browser.keys("a", "b", "x")
        assert browser.run("return document.activeElement.matches(args[0]);", focused)
        assert browser.run(cells) == before
    browser.keys(Keys.ARROW_DOWN, Keys.ENTER, Keys.ARROW_UP)
    assert len(browser.all(".tasnb-explorer tr.pinned")) == 1 and browser.run(cells) == before

    # a kernel that died: one line, and what needs none goes on working
    browser.run("await jupyterapp.shell.currentWidget.sessionContext.shutdown();")
    ask(browser, "the thing at the top")
    browser.until(lambda: "restart it" in browser.text(".status"), "a hint", 40)
    shown = rows(browser)
    browser.set(".slider:nth-of-type(2) input", 0)
    assert rows(browser) != shown
