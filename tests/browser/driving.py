"""A headless Chromium without a network, and pages that record their errors."""

import asyncio
import json
import re
import shutil
from collections.abc import Coroutine
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

from browser.geometry import Geometry

GEOMETRY = Path(__file__).with_name("geometry.js")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCAL = re.compile(r"(about|data|file|blob):")  # URLs that need no network
TIMEOUT = 60.0  # seconds for one call

# Errors and geometry of a picture are complete only after it was painted with its fonts.
WAIT_FOR_PAINT = """async () => {
    await document.fonts.ready;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


def chromium() -> str | None:
    """Return the path of an installed browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser process.

    It runs in a thread with its own event loop. Playwright's synchronous API would leave a running loop in the thread
    of the tests, so ``asyncio.run`` would fail there; and it has no timeout for a page that hangs.
    """

    def __init__(self, executable: str):
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, name="browser", daemon=True)
        self.thread.start()
        self.driver = self.process = None
        try:
            self.run(self._start(executable))
        except BaseException:
            self.close()
            raise

    async def _start(self, executable: str) -> None:
        from playwright.async_api import async_playwright

        self.driver = await async_playwright().start()
        # the sandbox does not work for root or in containers; the browser only opens pages of the tests
        self.process = await self.driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the thread of the browser, and return its result."""
        future = asyncio.run_coroutine_threadsafe(call, self.loop)
        try:
            return future.result(TIMEOUT)
        finally:
            future.cancel()

    def page(self) -> "Page":
        """Open a new page that shares nothing with the others."""
        return Page(self)

    async def _stop(self) -> None:
        if self.process:
            await self.process.close()
        if self.driver:
            await self.driver.stop()

    def close(self) -> None:
        try:
            self.run(self._stop())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


class Page:
    """A page of the browser. ``errors`` lists all problems since the last ``show``; tests assert that it is empty."""

    def __init__(self, browser: Browser):
        self.browser = browser
        self.errors: list[str] = []
        browser.run(self._open())

    async def _open(self) -> None:
        context = await self.browser.process.new_context(service_workers="block")
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("request", self._on_request)
        context.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        await context.route(lambda url: not LOCAL.match(url), lambda route: route.abort())
        await context.set_offline(True)  # web sockets are no requests: this stops them, too
        self.page = await context.new_page()
        self.page.on("websocket", lambda socket: self.errors.append(f"network: {socket.url}"))
        self.page.on("crash", lambda _: self.errors.append("the page crashed"))

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning", "assert"):
            self.errors.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Any) -> None:
        if not LOCAL.match(request.url):
            self.errors.append(f"network: {request.url}")

    def show(self, html_or_svg: str, width: int = 600, height: int = 900, dark: bool = False) -> "Page":
        """Show an HTML document, or a single picture, in a window of that size."""
        html = html_or_svg
        if re.match(r"\s*<(\?xml|!DOCTYPE svg|svg\b)", html_or_svg):
            html = f'<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0 }}</style>{html_or_svg}'
        self.browser.run(self._show(html, width, height, "dark" if dark else "light"))
        if html is not html_or_svg:
            self.errors += malformed(html_or_svg)
        return self

    async def _show(self, html: str, width: int, height: int, scheme: Any) -> None:
        await self.page.goto("about:blank")  # removes scripts, timers and listeners of the last document
        self.errors = []
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.emulate_media(color_scheme=scheme)
        await self.page.set_content(html)
        await self.page.evaluate(WAIT_FOR_PAINT)

    def evaluate(self, js: str, arg: Any = None) -> Any:
        """Return the value of an expression, or the result of a function, async or not, called with ``arg``."""
        return self.browser.run(self.page.evaluate(js, arg))

    def load(self, script: Path) -> None:
        """Run a script in the current document."""
        self.browser.run(self.page.add_script_tag(path=script))

    def screenshot(self, path: str | Path, full_page: bool = True) -> None:
        self.browser.run(self.page.screenshot(path=path, full_page=full_page))

    def geometry(self, selector: str = "svg") -> Geometry:
        """Return the positions of everything in the first <svg> with this selector."""
        # as JSON text: for thousands of points ten times as fast as Playwright's own encoding
        found = json.loads(self.evaluate(f"(selector) => JSON.stringify(({GEOMETRY.read_text()})(selector))", selector))
        assert found is not None, f"the page has no {selector}"
        return Geometry.of(found)


def malformed(svg: str) -> list[str]:
    """Return the XML errors of a picture. HTML tolerates them; a file of its own or an <img> does not."""
    try:
        ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        return [f"not XML: {error}"]
    return []
