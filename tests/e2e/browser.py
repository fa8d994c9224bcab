"""A headless Chromium, told what to do over two pipes (the DevTools protocol)."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


# What keys without a letter are called by Windows, which browsers still ask for.
KEY_CODES = {"Backspace": 8, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}


class Browser:
    """One page of a browser; `complaints` has what it said to the console."""

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []
        self._commands = commands
        self._answers = os.fdopen(answers, "rb", closefd=False)
        self._number = 0
        self._session = ""
        self._events: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, page: Path | str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Opens a file or address in a window of this size and waits until all of it is there."""
        size: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._ask("Emulation.setDeviceMetricsOverride", mobile=width < 500, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self._ask("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of what it promises."""
        answer = self._ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 10) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never so: {expression}"
            time.sleep(0.02)

    def move(self, x: float, y: float, *, button: str = "none") -> None:
        """Moves the mouse to a place of the window, with a button down where one is named."""
        self._mouse("mouseMoved", x, y, button=button)

    def press(self, x: float, y: float) -> None:
        """Puts the left button down."""
        self._mouse("mousePressed", x, y, button="left", clickCount=1)

    def lift(self, x: float, y: float) -> None:
        """Lets the left button go."""
        self._mouse("mouseReleased", x, y, button="left", clickCount=1)

    def click(self, what: str | tuple[float, float]) -> None:
        """Clicks at a place of the window, or in the middle of what a selector finds."""
        x, y = self.middle(what) if isinstance(what, str) else what
        self.move(x, y)
        self.press(x, y)
        self.lift(x, y)

    def wheel(self, x: float, y: float, down: float) -> None:
        """Turns the wheel at a place of the window, by so many pixels towards the person."""
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=down)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Fingers on the window: "Start", "Move" or "End" of a touch."""
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._ask("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=at)

    def key(self, key: str) -> None:
        """Strikes a key: a letter, or one with a name such as "Enter"."""
        code = KEY_CODES.get(key, 0)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        down = {"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code}
        self._ask("Input.dispatchKeyEvent", **down)
        self._ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of what a selector finds, in the window; scrolls to it where it must."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{found}.scrollIntoView({{ block: 'nearest' }})")
        box = f"{found}.getBoundingClientRect()"
        x, y = self.evaluate(f"(at => [at.x + at.width / 2, at.y + at.height / 2])({box})")
        return x, y

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Writes the page into a .png file: all of it, or what is in the window."""
        answer = self._ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        """The next message; what of it is a complaint is kept."""
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser ended"
            data += byte
        message: dict[str, Any] = json.loads(data)
        method, parameters = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(parameters))
        return message


@contextmanager
def browser() -> Generator[Browser]:
    """A browser that ends with the block."""
    assert CHROMIUM, "there is no browser on this machine"
    commands, answers = os.pipe(), os.pipe()
    # It reads from descriptor 3 and writes to 4, which these must not be.
    reading, writing = (fcntl(fd, F_DUPFD, 10) for fd in (commands[0], answers[1]))
    script = f'exec 3<&{reading} 4>&{writing}; exec "$@"'
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", CHROMIUM, *flags, f"--user-data-dir={profile}"],
            pass_fds=(reading, writing),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for fd in (reading, writing, commands[0], answers[1]):
                os.close(fd)
            yield Browser(commands[1], answers[0])
        finally:
            process.kill()
            process.wait()
            os.close(commands[1])
            os.close(answers[0])
