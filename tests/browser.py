"""A Chromium that a test drives by its DevTools protocol, over two pipes: no port, no driver."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = (
    *("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update"),
    *("disable-sync", "disable-extensions", "hide-scrollbars"),
)
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Escape": 27, " ": 32, "Tab": 9}  # their Windows codes
PATIENCE = 60  # seconds for an answer


class Page:
    """A page in a browser. `errors` has what its scripts and its policy complained of."""

    def __init__(self, read: int, write: int):
        self.read, self.write, self.number, self.session, self.errors, self.rest = read, write, 0, None, [], b""

    def call(self, method: str, **parameters: object) -> dict:
        """The result of a method of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._heard(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.rest:
            part = os.read(self.read, 1 << 20)
            assert part, "the browser has ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _heard(self, event: dict) -> None:
        told = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"].get("exception", {}).get("description"))
        if event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        if event["method"] == "Page.loadEventFired":
            self.loaded = True

    def open(self, file: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.loaded = False
        self.call("Page.navigate", url=file.as_uri())
        while not self.loaded:
            self._heard(self._next())

    def value(self, expression: str) -> object:
        """What a JavaScript expression gives, after its promise where it is one."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, as a person does."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            parameters = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **parameters)
            self.call("Input.dispatchKeyEvent", type="keyUp", **parameters)


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, which keeps its profile, and what it saves, in a folder."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()  # the ends are named by who writes, or reads, there
    flags = [f"--{flag}" for flag in QUIET]
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--remote-debugging-pipe",
        *flags,
        f"--user-data-dir={folder / 'profile'}",
    ]
    shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{to_us}', "sh", *command]
    process = subprocess.Popen(
        shell, pass_fds=(to_browser, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in (to_browser, to_us):
        os.close(end)
    page = Page(from_browser, from_us)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        page.session = None
        page.call("Browser.close")
        process.wait(PATIENCE)
        for end in (from_browser, from_us):
            os.close(end)
