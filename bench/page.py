"""``python -m bench.page``: the dashboard's page in Chromium, on a thousand boards that change.

Measured with Chromium's own counters, over the debugger; the browser, the broker, control and the
workers share this machine's cores.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import CDPSession, Page, sync_playwright

from bench.fleet import USER, Fleet
from bench.measure import Measure, median, quantile
from bench.table import show
from icebus.client.dashboard.built import NOT_BUILT, PAGE, is_built
from icebus.client.dashboard.settings import Settings
from icebus.client.dashboard.starting import Dashboard
from icebus.schemas.deadline import Deadline

START = 60.0
STOP = 10.0

VIEWS = {
    "farm": "#/farm",
    "boards": "#/boards",
    "boards, latest change first": "#/boards?sort=age",
    "activity": "#/activity",
}

LOOK = """
() => {
  // What stands in the column `reason` is when the change was published.
  const seen = new Map();
  window.ages = [];
  const look = () => {
    for (const row of document.querySelectorAll("tr.board")) {
      const at = row.querySelector(".reason-cell")?.textContent ?? "";
      const serial = row.querySelector("th").textContent;
      if (seen.has(serial) && seen.get(serial) !== at) {
        window.ages.push(Date.now() / 1000 - Number(at));
      }
      seen.set(serial, at);
    }
    window.looking = requestAnimationFrame(look);
  };
  look();
}
"""


def script_size() -> float:
    """Size of all scripts as they are sent, in kB."""
    files = (PAGE / "assets").glob("*.js")
    return sum(len(gzip.compress(file.read_bytes())) for file in files) / 1000


def counters(debugger: CDPSession) -> dict[str, float]:
    """Chromium's, by name."""
    metrics = debugger.send("Performance.getMetrics")["metrics"]
    return {each["name"]: each["value"] for each in metrics}


def busy(page: Page, debugger: CDPSession, seconds: float) -> float:
    """The share of a core that the page's main thread needs.

    By its own CPU time: how long its tasks last would count the others on this machine, too.
    """
    before, begun = counters(debugger)["ThreadTime"], time.monotonic()
    page.wait_for_timeout(seconds * 1000)
    return (counters(debugger)["ThreadTime"] - before) / (time.monotonic() - begun)


def heap(debugger: CDPSession) -> float:
    """MB of what scripts hold, once what nobody needs is gone."""
    debugger.send("HeapProfiler.collectGarbage")
    return counters(debugger)["JSHeapUsedSize"] / 1e6


def sign_in(page: Page, fleet: Fleet, url: str) -> float:
    """Sign in; returns the seconds until every board is listed."""
    page.goto(f"{url}/#/boards")
    page.get_by_label("Name").fill(USER)
    page.get_by_label("Password").fill(fleet.broker.address(USER).password)
    begun = time.monotonic()
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text(f"{fleet.size} boards").wait_for(timeout=START * 1000)
    return time.monotonic() - begun


def measure(fleet: Fleet, page: Page, url: str, rate: float, seconds: float) -> Iterator[Measure]:
    """Everything, in the order in which it may be done."""
    yield Measure("script, gzipped", script_size(), "kB", 300.0)
    shape = f"{fleet.size} boards"
    yield Measure(f"sign in, until {shape} are listed", sign_in(page, fleet, url), "s")
    debugger = page.context.new_cdp_session(page)
    debugger.send("Performance.enable")
    for name, fragment in VIEWS.items():
        page.evaluate("fragment => { location.hash = fragment }", fragment)
        page.wait_for_timeout(3000)
        share = busy(page, debugger, seconds)
        what = f"{name}: main thread busy, {rate:g} changes/s"
        yield Measure(what, share * 100, "%", 50.0)
    yield Measure("heap", heap(debugger), "MB", 200.0)
    page.evaluate("() => { location.hash = '#/boards' }")
    page.wait_for_timeout(3000)
    page.evaluate(LOOK)
    page.wait_for_timeout(2 * seconds * 1000)
    ages: list[float] = page.evaluate("() => window.ages")
    yield Measure("a change is seen, p50", median(ages) * 1e3, "ms")
    yield Measure(f"a change is seen, p99 of {len(ages)}", quantile(ages, 0.99) * 1e3, "ms", 1000)


def main(
    workers: Annotated[int, typer.Option(min=1, max=300, help="Simulated workers.")] = 50,
    devices: Annotated[int, typer.Option(min=1, help="Devices of each.")] = 20,
    changes: Annotated[float, typer.Option(min=0.1, help="A second, all together.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=1, help="For each view.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Measure the dashboard's page with many boards."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("no Chromium here: script/bootstrap --browser")
    if not is_built():
        raise SystemExit(NOT_BUILT)
    with tempfile.TemporaryDirectory(prefix="icebus-page-") as directory:
        fleet = Fleet(Path(directory), workers, devices, changes)
        dashboard = Dashboard(fleet.broker.address(USER), Settings(port=0), "bench")
        dashboard.start(Deadline.after(START))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                url = dashboard.running.url
                measured = list(measure(fleet, page, url, changes, seconds))
                browser.close()
        finally:
            dashboard.stop(Deadline.after(STOP))
            fleet.stop()
    show(measured, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
