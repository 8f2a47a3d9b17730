"""A real browser: Debian's Chromium, driven by Selenium; without one, tests that need it skip.

The browser resolves no host name, so that a page may reach this computer and nothing else.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasnb.explorer.page import SCRIPT

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
DRIVER = shutil.which("chromedriver") or ""
PATIENCE = 60.0  # seconds; the machine may be busy with other tests
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which the superuser of a container may not use
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Browser:
    """What the tests do with a page."""

    def __init__(self, driver: Chrome, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, address: str | Path, width: int = 1400, height: int = 1000) -> None:
        """Opens a page with a new list of errors, requests and downloads."""
        for file in self.folder.iterdir():
            file.unlink()
        self.driver.get("about:blank")
        self.resize(width, height)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def resize(self, width: int, height: int = 1000) -> None:
        """Windows are not narrower than 500 pixels, so that a phone's screen is emulated."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of JavaScript, which may await promises and gets ``args``."""
        wrapped = (
            "const done = arguments[arguments.length - 1], args = arguments[0];"
            f"(async () => {{ {script} }})().then(value => done([value, null]),"
            " error => done([null, String(error.stack || error)]));"
        )
        value, error = self.driver.execute_async_script(wrapped, list(arguments))
        assert error is None, error
        return value

    def call(self, name: str, *arguments: Any) -> Any:
        """The value of a function that the explorer exports."""
        source = base64.b64encode(SCRIPT.encode()).decode()
        script = f"const module = await import('data:text/javascript;base64,{source}');"
        return self.run(f"{script} return module[args[0]](...args[1]);", name, list(arguments))

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", css)

    def find(self, css: str) -> WebElement:
        return self.driver.find_element("css selector", css)

    def named(self, text: str, css: str = "button") -> WebElement:
        """The element with this text, such as a button."""
        return next(one for one in self.all(css) if one.text.strip() == text)

    def text(self, css: str) -> str:
        return self.find(css).text

    def set(self, css: str, value: float | str) -> None:
        """Sets a slider or a list as a user does, with the events that follow."""
        self.run(
            "const one = document.querySelector(args[0]); one.value = args[1];"
            "for (const kind of ['input', 'change'])"
            "  one.dispatchEvent(new Event(kind, { bubbles: true }));",
            css,
            value,
        )

    def keys(self, *keys: str) -> None:
        """Presses keys, whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def point_at(self, element: WebElement) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Waits for a value that is true."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + patience
        value = None
        while time.monotonic() < end:
            try:
                if value := condition():
                    return value
            except (WebDriverException, StopIteration):
                pass  # it is not there yet, or was just drawn anew
            time.sleep(0.05)
        raise AssertionError(f"waited in vain for {what}; last: {value!r}")

    def downloaded(self, name: str) -> Path:
        file = self.folder / name
        self.until(file.is_file, f"{name} among {[one.name for one in self.folder.iterdir()]}")
        return file

    def errors(self) -> list[str]:
        """What the console has said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """The schemes and hosts of what the page has asked for, such as file: or data:."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = message["params"]["request"]["url"]
                scheme, rest = address.split(":", 1)
                found.add(f"{scheme}:{'//' + rest.split('/')[2] if scheme == 'http' else ''}")
        return found

    def fits(self) -> bool:
        """Whether nobody has to scroll sideways."""
        return self.run(
            "const page = document.scrollingElement; return page.scrollWidth <= innerWidth;"
        )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser: chromium and chromedriver (Debian: chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS:
        options.add_argument(option)
    preferences = {
        "download.default_directory": str(folder),
        "profile.default_content_setting_values.automatic_downloads": 1,
    }
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()
