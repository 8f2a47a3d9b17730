"""``python -m tasnb explore``: the explorer alone, in a browser.

It runs on Jupyter's server, which provides the token without which nobody else on the computer can
use it, the choice of a free port, and the end by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Any

import tornado.web
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp

from tasnb.explorer.page import page
from tasnb.segmentation.explore import Session
from tasnb.settings import InputError, Settings

SESSIONS = 16  # pages that are kept in memory


class Sessions:
    """One session per page that is open, so that two of them do not mix up pictures."""

    def __init__(self, settings: Settings, image: str | None, expression: str) -> None:
        self.opened = settings, image, expression
        self.kept: OrderedDict[str, Session] = OrderedDict()
        self.kept[""] = Session(*self.opened)  # says at once what is wrong with the picture
        self.kept[""].warm()

    def new(self) -> tuple[str, Session]:
        session = self.kept.pop("", None) or Session(*self.opened)
        name = secrets.token_urlsafe(12)
        self.kept[name] = session
        while len(self.kept) > SESSIONS:
            self.kept.popitem(last=False)
        return name, session


class Page(JupyterHandler):
    """The page, with a session of its own."""

    @tornado.web.authenticated
    async def get(self) -> None:
        sessions: Sessions = self.settings["tasnb_sessions"]
        name, session = await asyncio.to_thread(sessions.new)
        view = await asyncio.to_thread(session.view)
        _ = self.xsrf_token  # sets the cookie that the page sends back
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.write(page(view, f"{self.base_url}explorer/ask?session={name}"))


class Ask(JupyterHandler):
    """What a page asks of its session."""

    @tornado.web.authenticated
    async def post(self) -> None:
        sessions: Sessions = self.settings["tasnb_sessions"]
        session = sessions.kept.get(self.get_argument("session", ""))
        if session is None:
            answer: dict[str, Any] = {"error": "this page is too old; reload it"}
        else:
            asked = json.loads(self.get_body_argument("asked"))
            buffers = [file["body"] for file in self.request.files.get("picture", [])]
            loop = asyncio.get_running_loop()

            def tell(*progress: Any) -> None:
                loop.call_soon_threadsafe(self._line, {"progress": progress})

            answer = await asyncio.to_thread(session.answer, asked, buffers, tell)
        self._line(answer)

    def _line(self, content: dict[str, Any]) -> None:
        """Sends a line of JSON: how far the answer is, or, last, the answer."""
        self.write(json.dumps(content) + "\n")
        self.flush()


ROUTES = {"": Page, "/ask": Ask}


def explore(arguments: argparse.Namespace) -> int:
    """Serves the explorer until Ctrl-C."""
    from tasnb.cli.given import given_for_pictures
    from tasnb.settings import make_settings

    if not arguments.port.isdigit() or not 0 < int(arguments.port) < 65536:
        raise InputError(f"--port {arguments.port!r}: should be a number from 1 to 65535")
    overrides = given_for_pictures(arguments)
    image = arguments.image and str(Path(arguments.image).expanduser())
    sessions = Sessions(make_settings(**overrides), image, arguments.expression)
    options = {"ip": "127.0.0.1", "port": arguments.port, "default_url": "/explorer"}
    options |= {"log_level": "ERROR", "answer_yes": True, "allow_root": True}
    options["open_browser"] = not arguments.no_browser
    server = ServerApp.instance()
    server.initialize(
        argv=[f"--ServerApp.{name}={value}" for name, value in options.items()],
        find_extensions=False,
    )
    server.web_app.settings["tasnb_sessions"] = sessions
    handlers = [(rf"{server.base_url}explorer{rest}", kind) for rest, kind in ROUTES.items()]
    server.web_app.add_handlers(".*$", handlers)
    print(f"explorer: {server.display_url.split()[0]} (Ctrl-C ends it)", flush=True)
    server.log.setLevel(logging.CRITICAL + 1)  # it would print the address again
    server.start()
    return 0
