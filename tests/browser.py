"""A real JupyterLab, driven by Chromium as a student would drive it."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.request import urlopen

import nbformat
from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SECOND = 1000  # Playwright counts in milliseconds

SETTINGS = {
    # no question about news over the page
    "labconfig/page_config.json": {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
    # cells out of sight stay in the page
    "lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}

KERNEL_IS_IDLE = """
() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'
"""

# Errors of a control's callback belong to no cell: the kernel's messages are the only place where they show.
LISTEN_TO_KERNEL = """
() => {
    const session = window.jupyterapp.shell.currentWidget.context.sessionContext;
    window.kernelErrors = [];
    session.iopubMessage.connect((_, message) => {
        if (message.header.msg_type === 'error') window.kernelErrors.push(message.content.traceback.join('\\n'));
    });
}
"""

RUN_ALL = """
() => {
    window.ran = false;
    window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ran = true; });
}
"""

# Times of key presses, and of the frames painted after them, in ms: of an explorer, whose picture changes ...
LISTEN_TO_KEYS = """
root => {
    window.pressed = [];
    window.painted = [];
    document.onkeydown = () => window.pressed.push(performance.now());
    const seen = () => requestAnimationFrame(() => window.painted.push(performance.now()));
    const picture = root.querySelector('img');
    const output = root.querySelector('.jp-OutputArea');
    if (!output) {
        picture.onload = seen;
        return;
    }
    // ... and of `interact`, whose pictures are new elements
    let last = picture.src;
    new MutationObserver(changes => {
        for (const change of changes) for (const node of [change.target, ...change.addedNodes]) {
            const next = node.tagName === 'IMG' ? node : node.querySelector?.('img');
            if (next && next.src !== last) {
                last = next.src;
                next.decode().then(seen);
            }
        }
    }).observe(output, { childList: true, subtree: true, attributes: true, attributeFilter: ['src'] });
}
"""


DIGEST = """
async picture => {
    const bytes = await (await fetch(picture.src)).arrayBuffer();
    return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))).join();
}
"""


def find_chromium() -> str | None:
    """The path of Chromium: from PLAYWRIGHT_CHROMIUM, the system's, or Playwright's own; None where there is none."""
    named = os.environ.get("PLAYWRIGHT_CHROMIUM")
    if named:
        return named
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells without outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


class JupyterLab:
    """A JupyterLab server with an empty configuration, and a browser page that shows it.

        with JupyterLab(folder, chromium) as lab:
            lab.open("play.ipynb")
            lab.run_all()
            lab.explorer().move("imbalance", "ArrowRight")
            lab.page.screenshot(path=...)
            lab.check()

    Args:
        folder: root of the server; its notebooks are opened by their path below it.
        chromium: path of the browser.
        home: an empty folder for the server's configuration, run-time files and log.
    """

    def __init__(self, folder: Path, chromium: str, home: Path) -> None:
        self.folder, self.chromium, self.home = folder, chromium, home
        self.page: Page | None = None
        self.console: list[str] = []  # errors in the browser's console

    def __enter__(self) -> Self:
        self.token, port = secrets.token_hex(8), _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = self.home / "server.log"
        self.server = self._start_server(port)
        try:
            self._wait_for_server()
            self.playwright = sync_playwright().start()
            self.browser = self.playwright.chromium.launch(executable_path=self.chromium, args=list(CHROMIUM_ARGS))
        except BaseException:
            self._stop_server()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            self.browser.close()
            self.playwright.stop()
        finally:
            self._stop_server()

    def open(self, notebook: str, *, width: int = 1300, height: int = 900, density: int = 2) -> None:
        """Show a notebook in a fresh page, with a fresh kernel, in place of the one before."""
        self.close()
        self.page = self.browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=density)
        self.page.on("console", lambda message: message.type == "error" and self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.goto(f"{self.url}/lab/tree/{notebook}?token={self.token}&reset")
        self.page.wait_for_function(KERNEL_IS_IDLE, timeout=90 * SECOND)
        self.page.evaluate(LISTEN_TO_KERNEL)

    def close(self) -> None:
        """End the notebook's kernel and close its page."""
        if self.page:
            self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
            self.page.close()
        self.page, self.console = None, []

    def run_all(self, *, seconds: float = 120) -> None:
        """Run all cells and wait until the last has run, or one has failed."""
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("() => window.ran", timeout=seconds * SECOND)

    def explorer(self, index: int = 0) -> "ExplorerView":
        """The explorer of this number, in the notebook's order, once it is there."""
        view = ExplorerView(self.page.locator(".ltlab-explorer").nth(index))
        view.picture.wait_for()
        return view

    def resize(self, width: int, height: int) -> None:
        """Change the browser's window, and wait until the page has followed."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(0.5 * SECOND)

    def check(self) -> None:
        """Assert that neither the browser nor the kernel nor the server reported an error since the notebook opened."""
        assert not self.kernel_errors(), "\n".join(self.kernel_errors())
        assert not self.console, self.console
        assert "Traceback" not in self.server_log(), self.server_log()

    def kernel_errors(self) -> list[str]:
        """Tracebacks of the kernel since the notebook was opened, also those of callbacks."""
        self.page.wait_for_function(KERNEL_IS_IDLE, timeout=30 * SECOND)  # an error comes after what it changed
        return self.page.evaluate("() => window.kernelErrors")

    def server_log(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def _start_server(self, port: int) -> subprocess.Popen:
        environment = os.environ | {
            f"JUPYTER_{kind}_DIR": str(self.home / kind.lower()) for kind in ("CONFIG", "RUNTIME", "DATA")
        }
        environment["IPYTHONDIR"] = str(self.home / "ipython")
        for name, settings in SETTINGS.items():
            path = self.home / "config" / name
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        command = [
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser",
            f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.folder}",
        ]  # fmt: skip
        with self.log.open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def _wait_for_server(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.server.poll() is not None:
                raise RuntimeError(f"JupyterLab ended with {self.server.returncode}:\n{self.server_log()}")
            try:
                urlopen(f"{self.url}/api?token={self.token}", timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"JupyterLab did not answer within {seconds} s:\n{self.server_log()}")

    def _stop_server(self) -> None:
        """Ask the server, which ends its kernels; then end whatever is left of its session."""
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()


@dataclass(frozen=True)
class ExplorerView:
    """One explorer in the page."""

    root: Locator

    @property
    def picture(self) -> Locator:
        return self.root.locator("img")

    def labels(self) -> list[str]:
        """The descriptions of the controls, in their order; of those that are there to be seen."""
        row = self.root.locator(".widget-box").first
        expect(row.locator(".widget-inline-hbox")).not_to_have_count(0, timeout=30 * SECOND)
        yet_to_come = row.locator("> :not(.jupyter-widgets, .widget-inline-hbox)")  # a slider of stops has one class
        expect(yet_to_come).to_have_count(0)
        shown = row.locator(".widget-inline-hbox:visible").all()
        return [control.inner_text().split("\n")[0].strip() for control in shown]

    def control(self, label: str) -> Locator:
        """What takes the keys of the control with this description: slider's handle, checkbox, menu."""
        label = self.root.locator("label").filter(has_text=re.compile(f"^\\s*{re.escape(label)}$"))
        control = label.locator("..")
        return control.locator("[role=slider], select, input").first

    def summary(self) -> str:
        return self.root.get_by_role("status").inner_text()

    def move(self, label: str, to: str) -> None:
        """Press the key `to` on a control, or choose `to` from a menu; wait for summary and picture."""
        before, control = self.summary(), self.control(label)
        if control.evaluate("control => control.tagName") == "SELECT":
            control.select_option(label=to)
        else:
            control.press(to)
        expect(self.root.get_by_role("status")).not_to_have_text(before, timeout=30 * SECOND)
        self.picture.evaluate("picture => picture.decode()")

    def there_and_back(self, label: str) -> tuple[str, str]:
        """Moves of a control, `move`'s `to`: to a neighbouring value, and back."""
        control = self.control(label)
        kind = control.evaluate("control => control.type === 'checkbox' ? 'CHECKBOX' : control.tagName")
        if kind == "CHECKBOX":
            return "Space", "Space"
        if kind == "SELECT":
            names = control.locator("option").all_inner_texts()
            at = control.evaluate("control => control.selectedIndex")
            return names[at + 1 if at + 1 < len(names) else at - 1], names[at]
        now, highest = (float(control.get_attribute(f"aria-value{which}")) for which in ("now", "max"))
        return ("ArrowRight", "ArrowLeft") if now < highest else ("ArrowLeft", "ArrowRight")

    def pixels(self) -> bytes:
        """What the screen shows of the picture, as a PNG."""
        return self.picture.screenshot()

    def drawn(self) -> str:
        """A digest of the picture that the page has got; much quicker than `pixels`."""
        return self.picture.evaluate(DIGEST)

    def size(self) -> tuple[float, float]:
        """Width and height of the picture's box in CSS pixels."""
        box = self.picture.bounding_box()
        return box["width"], box["height"]

    def latencies(self, label: str, keys: Sequence[str]) -> list[float]:
        """Press keys, each after the frame of the one before; ms from every key to the painting of its frame.

        A key may be several with spaces between them, of which the last makes the frame.
        """
        page, times = self._listen(label), []
        for n, key in enumerate(keys, start=1):
            for part in key.split():
                page.keyboard.press(part)
            page.wait_for_function("n => window.painted.length >= n", arg=n, timeout=30 * SECOND)
            times.append(page.evaluate("n => window.painted[n - 1] - window.pressed.at(-1)", n))
            page.evaluate("n => { window.painted.length = n }", n)  # a picture may be painted more than once
        return times

    def frames(self, label: str, keys: Sequence[str], interval: float) -> int:
        """Press a key every `interval` seconds, whatever is shown; how many frames were painted."""
        page = self._listen(label)
        for key in keys:
            page.keyboard.press(key)
            page.wait_for_timeout(interval * SECOND)
        page.wait_for_timeout(SECOND)
        return page.evaluate("() => window.painted.length")

    def _listen(self, label: str) -> Page:
        self.root.evaluate(LISTEN_TO_KEYS)
        self.control(label).focus()
        return self.root.page


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
