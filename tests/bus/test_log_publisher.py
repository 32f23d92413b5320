"""A program's log on the bus: it holds nobody up, is bounded, and is never about itself."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.connections import subscribed

from icebus.bus import Bus, LogPublisher
from icebus.bus._log.choice import AT_ONCE, Choice
from icebus.bus._log.publisher import WAITING
from icebus.schemas.deadline import Deadline
from icebus.schemas.log_records import LogRecord, RecentLog
from icebus.schemas.message import decode
from icebus.schemas.programs.logs import BoundedHandler
from icebus.schemas.topics import LOG, LOG_RECENT, Role

log = logging.getLogger("icebus.test")


@pytest.fixture(autouse=True)
def program() -> Iterator[None]:
    """Logs as a program does."""
    handler = BoundedHandler(io.StringIO())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield
    root.setLevel(level)
    root.removeHandler(handler)


def record(logger: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(logger, level, __file__, 1, "m", (), None)


def lines(box: Any, count: int) -> list[LogRecord]:
    return [decode(LogRecord, each.payload) for each in box.wait(count)]


# --- which lines, without a broker ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("logger", "level", "sent"),
    [
        ("icebus.worker", logging.WARNING, True),
        ("icebus.worker", logging.INFO, True),
        ("icebus.worker", logging.DEBUG, False),
        ("paho", logging.ERROR, False),
        ("mosquitto", logging.WARNING, False),
        ("paho.mqtt.client", logging.ERROR, False),
        ("icebus.bus._connection.trouble", logging.WARNING, False),
        ("icebus.bus._log.publisher", logging.ERROR, False),
        ("icebus.bus._connection.identity", logging.WARNING, True),
        ("icebus.bus._admission.admission", logging.WARNING, True),
    ],
)
def test_given_a_logger_and_level_then_it_is_known_whether_its_lines_are_sent(
    logger: str, level: int, *, sent: bool
) -> None:
    assert Choice().takes(record(logger, level), 1.0) is sent


def test_given_10000_lines_a_second_then_some_are_sent_and_the_others_counted() -> None:
    choice = Choice()
    taken = sum(choice.takes(record("icebus.worker"), n / 10_000) for n in range(10_000))
    assert taken in range(AT_ONCE, AT_ONCE + 21)
    assert choice.left_out == 10_000 - taken


# --- on a broker ----------------------------------------------------------------------------------


def test_given_lines_when_logged_then_an_admin_reads_them_and_later_ones_what_is_retained(
    connect: Any, inbox: Any
) -> None:
    box, recent = inbox(), inbox()
    subscribed(connect("root"), LOG, box)
    publisher = LogPublisher(connect("w1"), Role.WORKER, "w1")
    log.warning("it\nfails: %s", "a\x1b[2J", extra={"serial": "B1"})
    (line,) = lines(box, 1)
    assert box.messages[0].ids == {"role": "worker", "id": "w1", "level": "warning"}
    assert (line.message, line.fields) == (r"it\nfails: a\x1b[2J", {"serial": "B1"})
    publisher.close()
    # The next run adds to what this one leaves.
    subscribed(connect("root"), LOG_RECENT, recent)
    recent.wait(1)
    again = LogPublisher(connect("w1"), Role.WORKER, "w1")
    log.info("here again")
    recent.wait(2)
    again.close()
    told = decode(RecentLog, recent.messages[1].payload)
    assert [each.message for each in told.lines] == [line.message, "here again"]


def test_given_a_broker_that_is_away_then_nobody_waits_and_what_fits_is_sent_when_it_is_there(
    broker: Any, connect: Any, inbox: Any, eventually: Any
) -> None:
    box = inbox()
    subscribed(connect("root"), LOG, box)
    bus = Bus(broker.address("w1"), "w1")
    LogPublisher(bus, Role.WORKER, "w1")
    for number in range(3000):
        logging.getLogger(f"icebus.test.{number}").warning("line")
    bus.connect(Deadline.after(10))
    eventually(lambda: any(b"more were logged than are sent" in each for each in box.payloads))
    bus.close(Deadline.after(1))
    assert len(box.messages) in range(AT_ONCE + 1, WAITING + 2)


def test_given_trouble_with_sending_when_it_is_logged_then_that_is_not_sent(
    connect: Any, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = inbox()
    subscribed(connect("root"), LOG, box)
    bus = connect("w1")
    publish = bus.publish
    tries: list[str] = []

    def failing(topic: Any, message: Any, **options: Any) -> Any:
        tries.append(str(topic))
        logging.getLogger("icebus.anything").error("trouble with sending")
        if "first" in message.message:
            raise RuntimeError("it can't be sent")
        return publish(topic, message, **options)

    monkeypatch.setattr(bus, "publish", failing)
    publisher = LogPublisher(bus, Role.WORKER, "w1")
    log.warning("first")
    log.warning("second")
    assert [each.message for each in lines(box, 1)] == ["second"]
    monkeypatch.undo()
    publisher.close()
    assert len(tries) == 2


def test_given_many_threads_that_log_while_it_ends_then_all_of_them_go_on(connect: Any) -> None:
    publisher = LogPublisher(connect("w1"), Role.WORKER, "w1")
    started = threading.Barrier(5)

    def flood() -> None:
        started.wait(10)
        for number in range(300):
            log.warning("flood %d", number)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for each in threads:
        each.start()
    started.wait(10)
    publisher.close()
    for each in threads:
        each.join(10)
    assert not any(each.is_alive() for each in threads)
