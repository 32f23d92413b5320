"""The logs of a farm's parts stay short for as long as it is up."""

from __future__ import annotations

from pathlib import Path

from icebus.broker.log_files import LOG_BYTES
from icebus.client.local_farm.supervisor import LOG_INTERVAL, Service, Supervisor
from icebus.schemas.deadline import Deadline


class Running:
    """A part that lives."""

    running = True

    def stop(self, deadline: Deadline) -> int:
        return 0


class Ended(Running):
    """A part that has ended."""

    running = False


def test_given_a_part_that_ended_in_order_to_start_anew_then_it_does_so_at_once_without_a_word(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append)
    parts = iter([Ended(), Running(), Ended()])
    broker = Service("broker", lambda: next(parts), tmp_path / "log", starts_anew=lambda: True)
    supervisor.start(broker)

    supervisor.tend()

    assert broker.child is not None
    assert broker.child.running
    assert (said, broker.deaths) == ([], 0)


def supervisor_of(log: Path, said: list[str]) -> Supervisor:
    supervisor = Supervisor(said.append)
    supervisor.start(Service("control", Running, log))
    return supervisor


def test_given_a_part_that_has_logged_a_lot_then_its_log_begins_anew_and_the_old_one_is_kept(
    tmp_path: Path,
) -> None:
    log = tmp_path / "control.log"
    with log.open("ab", buffering=0) as part:
        part.write(b"one line of many\n" * (LOG_BYTES // 17 + 1))
        soon = supervisor_of(log, []).tend()
        part.write(b"it goes on\n")
    assert log.read_text() == "it goes on\n"
    kept = tmp_path / "control.log.1"
    assert kept.stat().st_size <= LOG_BYTES
    assert kept.stat().st_mode & 0o077 == 0
    assert soon.remaining <= LOG_INTERVAL


def test_given_a_log_that_cannot_be_kept_short_then_that_is_said_once(tmp_path: Path) -> None:
    log, said = tmp_path / "control.log", []  # type: ignore[var-annotated]
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    (tmp_path / "control.log.1").symlink_to(tmp_path / "elsewhere")
    supervisor = supervisor_of(log, said)
    supervisor.tend()
    supervisor.tend()
    assert len(said) == 1
    assert "is a link" in said[0]
