"""What notebooks are given: names for Tab, what objects show, a bar, cells that are interrupted.

In a real kernel, as Jupyter has it, of which one serves all of these tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import icebus.client
from icebus.broker.embedded import EmbeddedBroker
from icebus.client import PulseCountClient
from icebus.schemas.errors import NotEnoughDevices

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

SOON = 30.0
BITSTREAM = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_2khz.bin"

pytestmark = pytest.mark.slow


class Kernel:
    """Runs cells as a notebook does."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self._manager: Any = KernelManager(
            kernel_name="python3", connection_file=str(folder / "kernel.json")
        )
        self._manager.start_kernel(
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=str(folder)
        )
        self.client: Any = self._manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SOON)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def start(self, code: str) -> str:
        cell: str = self.client.execute(code)
        return cell

    def output(self, cell: str) -> list[tuple[str, dict[str, Any]]]:
        """All that a cell shows until it has ended."""
        shown: list[tuple[str, dict[str, Any]]] = []
        until = time.monotonic() + SOON
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.0, until - time.monotonic()))
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return shown
            shown.append((message["msg_type"], content))

    def run(self, code: str) -> list[tuple[str, dict[str, Any]]]:
        return self.output(self.start(code))

    def text(self, code: str) -> str:
        """What a cell prints and shows, as text; it fails where the cell does."""
        shown = self.run(code)
        errors = [content["evalue"] for kind, content in shown if kind == "error"]
        assert not errors, errors
        return "".join(
            content["text"] if kind == "stream" else content["data"]["text/plain"]
            for kind, content in shown
            if kind in ("stream", "execute_result")
        )

    def matches(self, code: str) -> list[str]:
        reply = self.client.complete(code, reply=True, timeout=SOON)
        found: list[str] = reply["content"]["matches"]
        return found

    def close(self) -> None:
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    pytest.importorskip("ipykernel")
    made = Kernel(tmp_path_factory.mktemp("kernel"))
    yield made
    made.close()


@pytest.fixture
def notebook(kernel: Kernel, broker: EmbeddedBroker, control: ScriptedControl) -> Iterator[Kernel]:
    """A kernel with a client of a scripted farm."""
    kernel.text(
        "from icebus.client import *\n"
        f"client = PulseCountClient({broker.address('alice').url()!r})\n"
        f"BITSTREAM = {str(BITSTREAM)!r}"
    )
    yield kernel
    kernel.text("close_all()")


def test_given_the_package_when_listed_then_its_public_names_are_there_and_nothing_is_loaded() -> (
    None
):
    code = "import icebus.client, sys; print(*dir(icebus.client), len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *names, _loaded = done.stdout.split()
    assert {name for name in names if not name.startswith("_")} == {*icebus.client.__all__}
    assert set(icebus.client._HOMES) == {*icebus.client.__all__}
    assert all(hasattr(icebus.client, name) for name in icebus.client.__all__)


def test_given_a_client_and_boards_when_shown_then_they_say_whose_where_what_for_and_how_long(
    alice: PulseCountClient, w1: ScriptedWorker, broker: EmbeddedBroker
) -> None:
    address = broker.address("alice")
    assert repr(alice) == (
        f"<PulseCountClient alice at farm {address.host}:{address.port}, pulsecount>"
    )
    assert str(address.password) not in repr(alice) + alice._repr_html_()
    with alice.reserve(serials=["d1", "d3"], duration=3600) as boards:
        assert re.fullmatch(
            rf"<Boards {boards.id} of alice, pulsecount: 2 boards \(d1, d3\), "
            r"(1h|59m\d+s) left, extended while the client lives>",
            repr(boards),
        )
        assert "2 boards in 1 reservation" in repr(alice)
        assert boards.id in alice._repr_html_()
        assert boards._repr_html_().count("serving") == 2
        names = {name for name in dir(boards) if not name.startswith("_")}
        assert {"evaluate", "map", "extend", "grow", "release", "serials"} <= names
        assert not {name for name in names if name.startswith("on_")}
    assert repr(boards).endswith("over: released>")
    alice.close()
    assert repr(alice).endswith("closed>")


def test_given_boards_that_the_program_holds_itself_when_too_few_are_left_then_it_is_told(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker
) -> None:
    with alice.reserve(serials=["d1"]) as boards:
        control.refuse = [NotEnoughDevices("wanted 1, available 0", wanted=1, available=0)]
        with pytest.raises(NotEnoughDevices, match=rf"holds d1 in {boards.id}.*close_all") as told:
            alice.reserve(1)
    assert told.value.details == {"wanted": 1, "available": 0}


def test_given_a_kernel_when_tab_is_pressed_then_names_are_completed(kernel: Kernel) -> None:
    kernel.text("import icebus.client")
    assert any("PulseCountClient" in each for each in kernel.matches("icebus.client.Pul"))
    assert any("to_dataframe" in each for each in kernel.matches("icebus.client.to_"))


def test_given_a_run_with_progress_when_in_a_notebook_then_a_bar_is_drawn_without_widgets(
    notebook: Kernel, w1: ScriptedWorker
) -> None:
    shown = notebook.run(
        "with client.reserve(serials=['d1']) as boards:\n"
        "    results = list(boards.evaluate([BITSTREAM] * 3, progress=True))\n"
        "to_dataframe(results).pulses.sum()"
    )
    kinds = [kind for kind, _ in shown]
    assert "stream" not in kinds, shown
    assert kinds.count("display_data") == 1
    pictures = [content["data"] for kind, content in shown if kind == "update_display_data"]
    assert 'value="3" max="3"' in pictures[-1]["text/html"]
    assert pictures[-1]["text/plain"].startswith("evaluating: 3/3")
    assert "3000" in shown[-1][1]["data"]["text/plain"]


@pytest.mark.parametrize("named", [False, True])
def test_given_a_cell_that_is_interrupted_then_nothing_waits_at_boards_and_they_are_still_held(
    named: bool, notebook: Kernel, w1: ScriptedWorker, control: ScriptedControl
) -> None:
    w1.measure = False
    notebook.text("boards = client.reserve(serials=['d1'])")
    begin = "results = boards.evaluate(endless())\nfor result in results:"
    cell = notebook.start(
        "def endless():\n    while True: yield BITSTREAM\n"
        + (begin if named else "for result in boards.evaluate(endless()):")
        + "\n    print(result)"
    )
    w1.evaluations.wait(lambda seen: len(seen) > 1)
    notebook.interrupt()
    shown = notebook.output(cell)
    assert [content["ename"] for kind, content in shown if kind == "error"] == ["KeyboardInterrupt"]
    w1.calls.wait(lambda seen: any(method == "withdraw" for method, _ in seen))
    assert "1 board (d1)" in notebook.text("boards")
    w1.measure = True
    assert "1000" in notebook.text("print(next(boards.map([BITSTREAM])).pulses)")
    notebook.text("boards.release()")
    assert not control.reservations


def test_given_an_async_cell_that_is_interrupted_then_its_boards_are_released(
    notebook: Kernel, w1: ScriptedWorker, control: ScriptedControl, broker: EmbeddedBroker
) -> None:
    w1.measure = False
    url = broker.address("alice").url()
    cell = notebook.start(
        f"async with AsyncPulseCountClient({url!r}) as quick, quick.reserve(1) as boards:\n"
        "    async for result in boards.evaluate([BITSTREAM] * 3, progress=True):\n"
        "        print(result)"
    )
    w1.evaluations.wait(lambda seen: len(seen) > 1)
    notebook.interrupt()
    shown = notebook.output(cell)
    (error,) = [content["ename"] for kind, content in shown if kind == "error"]
    assert error in ("CancelledError", "KeyboardInterrupt")
    assert any(method == "withdraw" for method, _ in w1.calls.seen)
    assert not control.reservations
    (bar,) = [content["data"] for kind, content in shown if kind == "display_data"]
    assert "0/3" in bar["text/plain"]
