"""Arguments that can't be: one typed error that names the argument, in the words of who gave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.command_line import Icebus, in_this_process

from icebus.client import PulseCountClient
from icebus.client._admin import Admin
from icebus.schemas.errors import IcebusError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.scripted_control import ScriptedControl

    from icebus.broker.embedded import EmbeddedBroker

NAN = float("nan")

VALIDATORS = ("Input should", "should match", "should have", "Value error", "valid integer")
"""What validators say, and nobody else."""

RESERVE: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"count": 0}, "count must be at least 1, not 0"),
    "many": ({"count": 10**30}, "count must be at most"),
    "words": ({"count": "two"}, "count must be an integer, not 'two'"),
    "half": ({"count": 1.5}, "count must be an integer, not 1.5"),
    "spaces": ({"serials": ["x y"]}, "serials[0] must be 1 to 64 letters, digits, _ or -"),
    "number": ({"serials": [5]}, "serials[0] must be text, not 5"),
    "mapping": ({"serials": {"a": 1}}, "serials must be a list"),
    "bytes": ({"serials": b"ab"}, "serials must be a list"),
    "empty": ({"serials": []}, "serials must not be empty"),
    "both": ({"count": 1, "serials": ["a"]}, "give either count or serials"),
    "negative": ({"duration": -1}, "duration must be at least"),
    "text": ({"duration": "1h"}, "duration must be a number, not '1h'"),
    "nan": ({"duration": NAN}, "duration must be a finite number"),
    "endless": ({"wait": float("inf")}, "wait must be a finite number"),
    "kind": ({"kind": 5}, "kind must be text, not 5"),
    "selector": ({"selector": 7}, "selector must be text, not 7"),
    "perhaps": ({"replace": "perhaps"}, "replace must be true or false"),
    "timeout": ({"timeout": "x"}, "a number of seconds, not 'x'"),
    "never": ({"timeout": NAN}, "a number of seconds, not nan"),
    "long": ({"kind": "k" * 10_000}, "kind must be 1 to 64"),
    "bidi": ({"kind": "a\u202eb"}, "not 'a\\u202eb'"),
}

OTHERS: dict[str, Callable[[PulseCountClient], object]] = {
    "extend": lambda client: client.extend("a b", 3),
    "extend by": lambda client: client.extend("a", "x"),  # type: ignore[arg-type]
    "end": lambda client: client.end(""),
    "attach": lambda client: client.attach(5),  # type: ignore[arg-type]
    "attach none": lambda client: client.attach(),
    "history": lambda client: client.history(limit="x"),  # type: ignore[arg-type]
    "since": lambda client: client.history(since="x"),  # type: ignore[arg-type]
    "events": lambda client: client.history(events=["x"]),  # type: ignore[list-item]
    "available": lambda client: client.available(5),  # type: ignore[arg-type]
    "transfer": lambda client: client.transfer("a", 5),  # type: ignore[arg-type]
    "timeout": lambda client: client.devices(timeout="x"),  # type: ignore[arg-type]
    "event": lambda client: client.on("nothing"),
    "handler": lambda client: client.register(5),  # type: ignore[arg-type]
    "hook": lambda client: client.on("results")(5),  # type: ignore[type-var]
    "url": lambda client: PulseCountClient(5),  # type: ignore[arg-type]
    "progress": lambda client: client.reserve(1).map([b""], progress="yes"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", RESERVE)
def test_given_a_wrong_argument_when_reserving_then_the_error_names_it_and_what_is_wanted(
    alice: PulseCountClient, control: ScriptedControl, case: str
) -> None:
    arguments, said = RESERVE[case]
    with pytest.raises(InvalidRequest) as caught:
        alice.reserve(**arguments)

    assert said in caught.value.message
    assert not any(each in caught.value.message for each in (*VALIDATORS, "--", "\u202e"))
    assert len(caught.value.message) < 400
    assert not control.requests.seen, "nobody was bothered with it"


@pytest.mark.parametrize("case", OTHERS)
def test_given_a_wrong_argument_when_anything_is_called_then_the_error_is_typed(
    alice: PulseCountClient, control: ScriptedControl, case: str
) -> None:
    with pytest.raises(IcebusError) as caught:
        OTHERS[case](alice)

    assert isinstance(caught.value, InvalidRequest)
    assert not any(each in caught.value.message for each in (*VALIDATORS, "--"))


def test_given_one_serial_when_a_list_could_be_given_then_it_stands_for_itself(
    alice: PulseCountClient, control: ScriptedControl
) -> None:
    with alice.reserve(serials="d1") as boards:
        assert boards.serials == ["d1"]


# --- on the command line --------------------------------------------------------------------------


@pytest.fixture
def icebus(
    broker: EmbeddedBroker,
    control: ScriptedControl,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Icebus]:
    monkeypatch.setenv("ICEBUS_URL", broker.address("alice").url())
    with in_this_process(monkeypatch, capsys) as run:
        yield run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reserve", "99999"), "COUNT must be at most"),
        (("reserve", "0"), "'count': must be at least 1"),
        (("reserve", "two"), "'count': must be an integer"),
        (("reserve", "-n", "99999"), "COUNT must be at most"),
        (("reserve", "2", "-n", "2"), "give how many once"),
        (("reserve", "--serial", "x y"), "--serial must be 1 to 64 letters, digits, _ or -"),
        (("reserve", "--serial", ""), "--serial must be 1 to 64"),
        (("reserve", "--kind", "a b"), "--kind must be 1 to 64"),
        (("reserve", "--duration", "0.001s"), "--duration must be at least 1"),
        (("available", "--kind", "a b"), "--kind must be"),
        (("release", "a b"), "reservation must be"),
        (("history", "--reservation", "a b"), "--reservation must be"),
        (("history", "--serial", "a b"), "--serial must be"),
        (("transfer", "x", "y z"), "USER must be"),
        (("admin", "drain", "a b"), "WORKER must be"),
        (("admin", "quarantine", "a", "--reason", ""), "--reason must not be empty"),
        (("watch", "-o", "json"), "'json' is not one of"),
        (("up", "--boards", "-1"), "must be at least 0"),
    ],
)
def test_given_a_wrong_argument_when_typed_then_it_is_called_as_on_the_command_line(
    icebus: Icebus, words: tuple[str, ...], said: str
) -> None:
    done = icebus(*words)

    assert done.code in (2, 6)
    assert said in done.stderr
    assert not any(each in done.stderr for each in (*VALIDATORS, "serials", "Traceback"))


def test_given_an_administrator_when_a_serial_can_not_be_then_the_argument_is_named(
    broker: EmbeddedBroker,
) -> None:
    with (
        Admin(broker.address("alice").url()) as admin,
        pytest.raises(InvalidRequest, match=r"serials\[1\] must be"),
    ):
        admin.reboot(["a", "b c"])
