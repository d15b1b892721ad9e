"""A headless Chromium for tests, spoken to through a pipe in the DevTools protocol: pages are opened as they are.

The page under test is not changed: what it loads, says and lays out is read from outside, whatever its
content-security policy forbids.
"""

import base64
import itertools
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
# The protocol reads from descriptor 3 and writes to 4; copies from 10 on, so that neither lies there already.
LAUNCH = """import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(descriptor), fcntl.F_DUPFD, 10) for descriptor in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def find_chromium() -> str:
    """The browser's path; skips the test where there is none."""
    named = os.environ.get("LISTENWELL_CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium; install it or set LISTENWELL_CHROMIUM")
    return found


class Page:
    """One tab: `requests` are the addresses it asked for, `complaints` what its console and its log say."""

    def __init__(self, pipe: "_Pipe", session: str) -> None:
        self.pipe, self.session = pipe, session
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # a window that nobody sees has no focus

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.pipe.call(method, parameters, self.session, self._note)

    def open(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Open a file in a window of this size and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE_S
        while self.run("document.readyState") != "complete":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not load")
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{expression[:80]}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key where the focus is."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def picture(self, **clip: float) -> bytes:
        """A PNG of the window, or of a part (x, y, width, height) of the page."""
        asked: dict[str, Any] = {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True} if clip else {}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **asked)["data"])

    def n_printed_pages(self) -> int:
        """How many pages the page takes on paper (A4 or letter, as the browser's default is)."""
        printed = base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])
        return len(re.findall(rb"/Type\s*/Page\b", printed))

    def _note(self, event: dict[str, Any]) -> None:
        told = event["params"]
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(told["args"]))
            case "Log.entryAdded":
                self.complaints.append(str(told["entry"]["text"]))


class _Pipe:
    """Messages of the DevTools protocol, one JSON object each, ended by a zero byte."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.numbers = itertools.count(1)
        self.rest = b""

    def call(self, method: str, parameters: dict[str, Any], session: str = "", note: Any = None) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self._write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if "id" not in answer:
                if note is not None and answer.get("sessionId") == session:
                    note(answer)
            elif answer["id"] == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self.writing, content) :]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            if not select.select([self.reading], [], [], PATIENCE_S)[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self.reading, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser closed its pipe")
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def open_tab(folder: Path) -> Iterator[Page]:
    """Yield a tab of a browser of its own, whose profile lies in `folder`; it ends with the block."""
    command = [find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    command += ["--hide-scrollbars", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
    command += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
    to_browser, from_browser = os.pipe(), os.pipe()
    ends = (to_browser[0], from_browser[1])
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *map(str, ends), *command], pass_fds=ends,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        pipe = _Pipe(from_browser[0], to_browser[1])
        target = next(t for t in pipe.call("Target.getTargets", {})["targetInfos"] if t["type"] == "page")
        asked = {"targetId": target["targetId"], "flatten": True}
        yield Page(pipe, pipe.call("Target.attachToTarget", asked)["sessionId"])
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        os.close(to_browser[1])
        os.close(from_browser[0])
