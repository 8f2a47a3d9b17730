"""``python -m tasnb explore`` for real: a server on a free port, used in a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, free_port
from explorer_page import answered, ask, check, rows
from painted import PICTURES
from views import FIRST

from tasnb.cli.arguments import main
from tasnb.settings import ROOT

pytestmark = pytest.mark.slow


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tasnb", "explore", *map(str, arguments)]


@pytest.fixture(scope="module")
def served(
    shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the address that it printed."""
    options = [f"-p {name} {value}".split() for name, value in settings(shared_store).items()]
    arguments = [part for option in options for part in option]
    process = subprocess.Popen(
        command("--no-browser", "--port", free_port(), *arguments),
        cwd=tmp_path_factory.mktemp("anywhere"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"explorer: (http://127\.0\.0\.1:\d+/\S+) \(Ctrl-C ends it\)\n", line)
        assert found, line + process.stderr.read()
        threading.Thread(target=process.stderr.read, daemon=True).start()  # never full
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def settings(store: Path) -> dict[str, str]:
    first = {name: ",".join(v) if isinstance(v, list) else str(v) for name, v in FIRST.items()}
    return {**first, "store": str(store)}


def test_it_is_used(served: tuple, browser: Browser, shared_store: Path, tmp_path: Path) -> None:
    _, address = served
    browser.open(address)
    browser.until(lambda: browser.all("tbody tr"), "the explorer")
    first = PICTURES[0]  # also the first of RefScenes val
    ask(browser, "the thing on the left")
    answered(browser, "the thing on the left")
    check(browser, shared_store, first, "the thing on the left")
    browser.set(".slider:nth-of-type(2) input", 1.5)
    check(browser, shared_store, first, "the thing on the left", lam=1.5)
    browser.set(".lists label:nth-of-type(1) select", "released")
    browser.until(lambda: "recipe released" in browser.text(".about"), "the other recipe")
    check(browser, shared_store, first, "the thing on the left", lam=1.5, recipe="released")
    browser.set(".lists label:nth-of-type(1) select", "published")
    browser.until(lambda: "recipe published" in browser.text(".about"), "the recipe")

    ask(browser, "   ")
    browser.until(lambda: browser.text(".status").startswith("Type an expression"), "a hint")
    wrong = tmp_path / "notes.png"
    wrong.write_text("no picture")
    browser.find("input[type=file]").send_keys(str(wrong))
    said = "cannot read notes.png: choose a JPEG or PNG file"
    browser.until(lambda: browser.text(".status") == said, said)

    browser.named("Reset").click()
    browser.find("input[type=file]").send_keys(str(PICTURES[6]))
    browser.until(lambda: "A picture of your own" in browser.text(".about"), "the picture")
    ask(browser, "the animal on the right")
    answered(browser, "the animal on the right")
    check(browser, shared_store, PICTURES[6], "the animal on the right")
    assert not browser.errors() and browser.fits()
    host = re.match(r"http://[^/]+", address)[0]
    assert browser.requests() <= {"data:", "blob:", host}
    browser.resize(390)
    assert browser.fits()


def test_two_pages_do_not_mix(served: tuple, browser: Browser) -> None:
    _, address = served
    driver = browser.driver
    browser.open(address)
    one = driver.current_window_handle
    ask(browser, "the thing at the top")
    answered(browser, "the thing at the top")
    driver.switch_to.new_window("tab")
    try:
        driver.get(address)
        assert browser.find(".ask input").get_attribute("value") != "the thing at the top"
        browser.find("input[type=file]").send_keys(str(PICTURES[6]))
        browser.until(lambda: "A picture of your own" in browser.text(".about"), "the picture")
    finally:
        driver.close()
        driver.switch_to.window(one)
    browser.named("›").click()
    browser.until(lambda: browser.text(".walk span").startswith("2 of"), "the next")
    assert "RefScenes val" in browser.text(".about")


def test_strangers_are_not_served(served: tuple, browser: Browser) -> None:
    _, address = served
    browser.driver.delete_all_cookies()
    browser.open(address.split("?")[0])
    assert not browser.all(".tasnb-explorer")


def test_ctrl_c_ends_it_and_the_page_says_so(served: tuple, browser: Browser) -> None:
    process, address = served
    browser.open(address)
    browser.until(lambda: browser.all("tbody tr"), "the explorer")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    with socket.socket() as one:  # the port is free again
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", int(re.search(r":(\d+)/", address)[1])))
    ask(browser, "the thing at the top")
    browser.until(lambda: "start it again" in browser.text(".status"), "a hint")
    before = rows(browser)
    browser.set(".slider input", 0.9)  # what needs no kernel goes on working
    assert rows(browser) != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.jpg"], r"no image file at missing\.jpg"),
        (["--port", "0"], r"--port '0': should be a number from 1 to 65535"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "--no-browser", *arguments]) == 2
    assert re.fullmatch(rf"tasnb: {said}\n", capsys.readouterr().err)
