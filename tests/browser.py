"""Chromium for tests: named by RADSTACK_CHROMIUM, or on the PATH; None where there is none."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """Path of the browser."""
    return os.environ.get("RADSTACK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def opened(page: Path, width: int = 1280, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    """``page`` from the file system in a window of ``width`` pixels, and what it complained of or asked a network for."""
    from playwright.sync_api import sync_playwright

    browser_file, said = chromium(), []
    assert browser_file is not None
    # The npm package brings its libraries beside the browser.
    libraries = Path(browser_file).parent / "al2023" / "lib"
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries)} if libraries.exists() else dict(os.environ)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_file, args=["--no-sandbox"], env=env)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else
               said.append(f"asked for {request.url}"))
        tab.goto(page.resolve().as_uri())
        yield tab, said
        browser.close()
