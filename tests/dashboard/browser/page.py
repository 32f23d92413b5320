"""The page as tests use it: what a person would do and see."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.dashboard.browser.simulated_farm import SimulatedFarm

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator

SOON = 45_000.0
"""Milliseconds within which anything here happens on a busy machine."""

AXE = Path("client/dashboard/node_modules/axe-core/axe.min.js")

SCREENSHOTS = "ICEBUS_SCREENSHOTS"
"""Folder into which the pictures of the documents are written, if it is set."""


@cache
def axe() -> str:
    """The program that looks for what keeps people out."""
    return AXE.read_text()


class FarmPage:
    """One page in one context, signed out at first.

    Args:
        context: with the screen's size and colours.
        url: of the dashboard.
        farm: whose accounts are used.
    """

    def __init__(self, context: BrowserContext, url: str, farm: SimulatedFarm) -> None:
        self._context = context
        self._farm = farm
        self.url = url
        self.errors: list[str] = []
        self.subscriptions: list[str] = []
        context.set_default_timeout(SOON)
        self.tab = context.new_page()
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda message: self._on_console(message.text))
        self.tab.on("websocket", lambda socket: socket.on("framesent", self._on_sent))
        self.tab.goto(url)

    def close(self) -> None:
        """Close it; whatever was wrong in it fails the test."""
        self._context.close()
        assert self.errors == []

    def sign_in(self, name: str, password: str | None = None) -> None:
        """Fill in the form."""
        self.tab.get_by_label("Name").fill(name)
        secret = self._farm.address(name).password if password is None else password
        self.tab.get_by_label("Password").fill(secret)
        self.tab.get_by_role("button", name="Sign in").click()

    def signed_in(self, name: str, role: str) -> FarmPage:
        """Sign in and wait until all is live and what one may do is known."""
        self.sign_in(name)
        self.wait_live()
        self.see(role)
        return self

    def go(self, view: str) -> None:
        """Go to a view by its name in the navigation."""
        self.tab.get_by_role("navigation").get_by_role("link", name=view, exact=True).click()

    def visit(self, fragment: str) -> None:
        """Go to an address within the page."""
        self.tab.evaluate("fragment => { location.hash = fragment }", fragment)

    def see(self, text: str) -> Locator:
        """Wait until that text is to be seen."""
        found = self.tab.get_by_text(text).first
        found.wait_for()
        return found

    def wait_live(self) -> None:
        """Wait until what is shown is of now."""
        self.tab.locator("header:not(.alarm)").wait_for()
        self.tab.locator("main[aria-busy=false]").wait_for()

    def wait_gone(self, what: str) -> str:
        """Wait until all is greyed and the page says what is gone; what else it says."""
        self.tab.locator("header.alarm").get_by_text(what).wait_for()
        self.tab.locator("main.stale").wait_for()
        said: str = self.tab.locator("header").inner_text()
        return said

    def wait_unlisted(self, reservation: str) -> None:
        """Wait until a reservation is listed no more."""
        self.tab.locator("code", has_text=reservation).wait_for(state="detached")

    def row(self, serial: str) -> Locator:
        """A board's row in the list of boards."""
        return self.tab.get_by_role("row").filter(has_text=serial)

    def wait_state(self, serial: str, state: str) -> None:
        """Wait until a board is listed in that state."""
        self.row(serial).filter(has_text=state).wait_for()

    def button(self, name: str) -> Locator:
        """Buttons of that name."""
        return self.tab.get_by_role("button", name=name)

    def confirm(self, button: str, reason: str | None = None) -> None:
        """Answer the dialog, and wait until it is done and closed."""
        dialog = self.tab.get_by_role("dialog")
        if reason is not None:
            dialog.get_by_label("Reason").fill(reason)
        dialog.get_by_role("button", name=button).click()
        dialog.wait_for(state="detached")

    def accessibility(self) -> list[str]:
        """What axe finds that is serious or worse."""
        # By the debugger, which the page's CSP does not hold for.
        self.tab.evaluate(f"() => {{ {axe()} }}")
        found: dict[str, Any] = self.tab.evaluate("() => axe.run()")
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def picture(self, name: str) -> None:
        """Write a picture for the documents, where they are wanted."""
        folder = os.environ.get(SCREENSHOTS)
        if folder:
            self.tab.screenshot(path=Path(folder) / f"{name}.png")

    def _on_console(self, text: str) -> None:
        # That the broker is away is no fault of the page's, but the browser says so.
        if "Content Security Policy" in text or "Uncaught" in text:
            self.errors.append(text)

    def _on_sent(self, frame: bytes | str) -> None:
        self.subscriptions += filters_of(frame if isinstance(frame, bytes) else frame.encode())


SUBSCRIBE = 8


def filters_of(packets: bytes) -> list[str]:
    """The topic filters that MQTT packets of a frame subscribe to (MQTT 5.0, 2.1 and 3.8)."""
    filters: list[str] = []
    start = 0
    while start < len(packets):
        kind = packets[start] >> 4
        size, at = _length(packets, start + 1)
        start = at + size
        if kind == SUBSCRIBE:
            properties, at = _length(packets, at + 2)  # behind the packet's number
            at += properties
            while at < start:
                end = at + 2 + int.from_bytes(packets[at : at + 2], "big")
                filters.append(packets[at + 2 : end].decode())
                at = end + 1  # behind the options
    return filters


def _length(packets: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and where what follows it begins."""
    value = shift = 0
    while True:
        value |= (packets[at] & 0x7F) << shift
        shift += 7
        at += 1
        if packets[at - 1] < 0x80:
            return value, at
