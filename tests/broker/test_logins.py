"""Who fails to log in, as read from lines of Mosquitto's log, and who is shut out."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.broker.logins.allowances import (
    AT_ONCE,
    FORGIVEN,
    MOST_SHUT_OUT,
    PER_SECOND,
    SHUT_OUT,
    Allowances,
    Network,
    network_of,
)
from icebus.broker.logins.filters import MOST_INSTRUCTIONS, filter_program
from icebus.broker.logins.lines import (
    Detail,
    Ended,
    Failed,
    Full,
    Line,
    LoggedIn,
    Opened,
    Other,
    Reason,
    read_line,
    shown,
)

EOF = "error:0A000126:SSL routines::unexpected eof while reading."
THERE = "10.0.0.5"
INNOCENT = "10.0.0.9"

# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("New connection from 10.0.0.5:57307 on port 8883.", Opened(THERE, 57307)),
        ("New connection from 2001:db8::5:57307 on port 8883.", Opened("2001:db8::5", 57307)),
        (
            "New client connected from 10.0.0.5:32987 as c1 (p5, c1, k60, u'alice').",
            LoggedIn(THERE, 32987, "c1", "alice"),
        ),
        ("Client <unknown> disconnected, not authorised.", Failed(Reason.REFUSED)),
        ("Client <unknown> disconnected due to protocol error.", Failed(Reason.MALFORMED)),
        ("Client <unknown> disconnected due to malformed packet.", Failed(Reason.MALFORMED)),
        ("Client <unknown> disconnected: Protocol error.", Failed(Reason.NO_TLS)),
        ("Client <unknown> closed its connection.", Failed(Reason.LEFT)),
        ("Client <unknown> has exceeded timeout, disconnecting.", Failed(Reason.LEFT)),
        (
            "Client connection from 10.0.0.5 failed: error:0A00009C:SSL routines::http request.",
            Failed(Reason.NO_TLS, THERE),
        ),
        (
            f"Client connection from 10.0.0.5 failed: {EOF}",
            Failed(Reason.LEFT, THERE),
        ),
        ("Client connection from 10.0.0.5 denied: max_connections exceeded.", Full(THERE)),
        ("Client c1 disconnected.", Ended("c1")),
        ("Client c1 already connected, closing old connection.", Ended("c1")),
        ("Client c1 has exceeded timeout, disconnecting.", Ended("c1")),
        ("OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not …", Detail()),
        ("Warning: Mosquitto should not be run as root/administrator.", Other()),
        ("", Other()),
    ],
)
def test_given_a_line_of_mosquitto_then_it_is_understood(text: str, says: Line) -> None:
    assert read_line(f"1795849545: {text}".encode()) == says


IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)
LIKE_ENDS = st.sampled_from(
    [
        "<unknown>",
        "<unknown> disconnected, not authorised.",
        "connection from 10.0.0.9 failed: error:0A000126:SSL routines::x.",
        "connection from 10.0.0.9 denied: max_connections exceeded.",
        "x (p5, c1, k60, u'bob').",
        "x disconnected: a.",
        "x closed its connection.",
    ]
)
ENDS = st.sampled_from(
    ["disconnected.", "closed its connection.", "has exceeded timeout, disconnecting."]
)


@given(client=IDS | LIKE_ENDS | st.tuples(LIKE_ENDS, LIKE_ENDS).map(" ".join))
def test_given_any_client_id_then_a_login_is_counted_for_its_user_and_address(client: str) -> None:
    line = f"1: New client connected from {THERE}:1 as {client} (p5, c1, k60, u'alice')."
    assert read_line(line.encode()) == LoggedIn(THERE, 1, client, "alice")


@given(client=IDS | LIKE_ENDS | st.tuples(LIKE_ENDS, LIKE_ENDS).map(" ".join), end=ENDS)
def test_given_any_client_id_then_its_end_is_no_failure_of_another_address(
    client: str, end: str
) -> None:
    read = read_line(f"1: Client {client} {end}".encode())
    assert isinstance(read, Ended) or client == "<unknown>"


@given(client=st.text("x", min_size=950, max_size=1200), end=LIKE_ENDS)
def test_given_a_line_that_was_cut_then_what_it_seems_to_say_is_not_believed(
    client: str, end: str
) -> None:
    logged_in = f"1: New client connected from {THERE}:1 as {client}"
    assert read_line(f"{logged_in[: 999 - len(end)]}{end}".encode()) == LoggedIn(THERE, 1, "", "")
    forged = "1: Client connection from 10.0.0.9 failed: error:0A:SSL routines::" + "x" * 1000
    assert read_line(forged[:998].encode() + b".") == Detail()


@given(line=st.binary(max_size=1500))
def test_given_any_bytes_then_reading_them_does_not_fail(line: bytes) -> None:
    assert read_line(line) is not None


def test_given_a_line_then_it_is_shown_without_what_ids_hide_and_terminals_obey() -> None:
    said = shown(f"Client alice-{'0a' * 16} \x1b[31m\u202e disconnected.")
    assert said == "Client alice-… \\x1b[31m\\u202e disconnected."


# --- who is shut out ----------------------------------------------------------------------------


def fail(allowances: Allowances, times: int, now: float, address: str = THERE) -> bool:
    """Whether the address is shut out for it."""
    return any([allowances.opened(address, port, now) for port in range(times)])  # noqa: C419


def test_given_as_many_failures_as_are_forgiven_then_one_more_shuts_out() -> None:
    allowances = Allowances()
    assert not fail(allowances, int(AT_ONCE) - 1, 0)
    assert fail(allowances, 1, 0)
    assert allowances.shut_out(0) == {network_of(THERE)}
    assert allowances.shut_out(SHUT_OUT + 1) == frozenset()


def test_given_somebody_who_tries_again_every_second_for_ever_then_he_is_not_shut_out() -> None:
    allowances = Allowances()
    assert not any(fail(allowances, int(PER_SECOND) - 1, now) for now in range(10_000))


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), max_size=200))
def test_given_any_storm_then_what_comes_through_is_bounded(steps: list[tuple[float, int]]) -> None:
    allowances, now, through = Allowances(), 0.0, 0
    for pause, attempts in steps:
        now += pause
        for _ in range(attempts):
            if network_of(THERE) not in allowances.shut_out(now):
                through += 1
                fail(allowances, 1, now)
    assert through <= AT_ONCE * (2 + now / SHUT_OUT) + PER_SECOND * now


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_given_this_machine_then_it_is_never_shut_out(address: str) -> None:
    allowances = Allowances()
    assert not fail(allowances, 10 * int(AT_ONCE), 0, address)
    assert network_of(address) in FORGIVEN


def test_given_a_thousand_logins_that_succeed_at_once_then_that_is_a_cluster_coming_back() -> None:
    allowances = Allowances()

    def comes(port: int) -> bool:
        shut = allowances.opened(THERE, port, 0)
        allowances.logged_in(THERE, port, 0)
        return shut

    assert not any(map(comes, range(1000)))
    assert any(map(comes, range(10_000)))


def test_given_more_who_fail_than_a_filter_may_have_then_the_last_ones_are_shut_out() -> None:
    allowances = Allowances()
    for number in range(MOST_SHUT_OUT + 5):
        assert fail(allowances, int(AT_ONCE), 0, f"10.1.0.{number}")
    shut = allowances.shut_out(0)
    assert len(shut) == MOST_SHUT_OUT
    assert network_of(f"10.1.0.{MOST_SHUT_OUT + 4}") in shut


# --- whom a failure is counted for --------------------------------------------------------------


def origin(allowances: Allowances, now: float = 0.0) -> str:
    return allowances.failed(Reason.REFUSED, "", now)


def test_given_one_connection_that_has_yet_to_log_in_then_a_failure_is_its_own() -> None:
    allowances = Allowances()
    allowances.opened(INNOCENT, 1, 0)
    allowances.logged_in(INNOCENT, 1, 0)
    allowances.opened(THERE, 2, 0)
    assert origin(allowances) == THERE
    assert origin(allowances) == ""


def test_given_a_storm_beside_one_who_logs_in_then_the_storm_is_counted_for_its_address() -> None:
    allowances = Allowances()
    for port in range(10):
        allowances.opened(THERE, port, 0)
    allowances.opened(INNOCENT, 99, 0)
    assert {origin(allowances) for _ in range(8)} == {THERE}


def test_given_a_flood_of_one_network_then_it_cannot_have_another_shut_out() -> None:
    allowances = Allowances()
    allowances.opened(INNOCENT, 1, 0)
    for _ in range(5000):
        allowances.failed(Reason.REFUSED, "", 0)
        allowances.failed(Reason.REFUSED, INNOCENT, 0)
    assert allowances.shut_out(0) == frozenset()


def test_given_silent_connections_of_somebody_else_then_they_are_not_blamed() -> None:
    allowances = Allowances()
    for port in range(10):
        allowances.opened(INNOCENT, port, 0)
    allowances.opened(THERE, 1, 60)
    assert origin(allowances, 60) == THERE


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["opened", "logged in", "failed"]),
            st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "nonsense", "fe80::1%eth0"]),
            st.integers(1, 5),
            st.floats(0, 30),
        ),
        max_size=200,
    )
)
def test_given_lines_in_any_order_then_the_count_never_fails(
    steps: list[tuple[str, str, int, float]],
) -> None:
    allowances, now = Allowances(), 0.0
    for what, address, port, pause in steps:
        now += pause
        if what == "opened":
            allowances.opened(address, port, now)
        elif what == "logged in":
            allowances.logged_in(address, port, now)
        else:
            allowances.failed(Reason.LEFT, "", now)
    assert sum(count for count, _ago in allowances.failures(now, now + 1).values()) <= len(steps)


# --- the kernel's filter ------------------------------------------------------------------------

NETWORKS = st.sets(
    st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str), max_size=MOST_SHUT_OUT
).map(lambda found: frozenset(filter(None, map(network_of, found))))


def passes(program: bytes, address: str) -> bool:
    """Run a filter on the IP header of a packet, as Linux would."""
    source = ipaddress.ip_address(address)
    header = bytearray(40)
    header[0] = source.version << 4
    begin = 12 if source.version == 4 else 8
    header[begin : begin + len(source.packed)] = source.packed
    steps = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    memory: dict[int, int] = {}
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        offset = operand - 0xFFF00000
        if code == 0x20:
            value = int.from_bytes(header[offset : offset + 4])
        elif code == 0x30:
            value = header[offset]
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            at += if_true if value == operand else if_false
        elif code == 0x05:
            at += operand
        elif code == 0x02:
            memory[operand] = value
        elif code == 0x60:
            value = memory[operand]
        else:
            assert code == 0x06
            return bool(operand)


@given(shut_out=NETWORKS, other=st.ip_addresses().map(str))
def test_given_a_filter_then_it_drops_what_it_shall_and_nothing_else(
    shut_out: frozenset[Network], other: str
) -> None:
    program = filter_program(shut_out)
    assert len(program) // 8 <= MOST_INSTRUCTIONS
    for network in shut_out:
        assert not passes(program, str(network.network_address))
        assert not passes(program, str(network.broadcast_address))
    assert passes(program, other) == (network_of(other) not in shut_out)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"New connection from ::ffff:10.0.0.5:5555 on port 1.", Opened("10.0.0.5", 5555)),
        (b"New connection from ::FFFF:10.0.0.5:5555 on port 1.", Opened("10.0.0.5", 5555)),
        (b"New connection from 2001:db8::5:5555 on port 1.", Opened("2001:db8::5", 5555)),
        (
            b"New client connected from ::ffff:10.0.0.5:5555 as a (p5, c1, k60, u'alice').",
            LoggedIn("10.0.0.5", 5555, "a", "alice"),
        ),
    ],
)
def test_given_ipv4_on_a_socket_of_ipv6_then_its_address_is_read_as_everywhere(
    line: bytes, wanted: object
) -> None:
    assert read_line(line) == wanted
