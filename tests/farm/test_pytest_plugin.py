"""The pytest plugin, by tests that use it, run by a pytest of their own on one farm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from tests.farm.conftest import Up

from icebus.client import PulseCountClient, VarianceClient
from icebus.client.pytest_plugin import Farm
from icebus.client.pytest_plugin import _reserving as loaded  # stays when an inner pytest has ended

assert all((PulseCountClient, VarianceClient, loaded))

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

BITSTREAM = "BITSTREAM"
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(
    farm: Up,
    circuits: list[str],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs the tests of a text with pytest in this process, as ann would."""
    for name in [name for name in os.environ if name.startswith("ICEBUS_")] + ["CI"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", farm.machine.environment["XDG_STATE_HOME"])

    def run(text: str, *options: str, inline: bool = True) -> pytest.RunResult:
        pytester.makepyfile("import pytest\n" + dedent(text).replace(BITSTREAM, str(circuits[-1])))
        start = pytester.runpytest_inprocess if inline else pytester.runpytest_subprocess
        return start("-p", "no:cacheprovider", "-rs", "--strict-markers", *options)

    return run


def held(farm: Up) -> int:
    with PulseCountClient(farm.url) as client:
        return sum(device.user is not None for device in client.devices())


def test_given_markers_when_tests_run_then_each_has_its_boards_and_lets_go_of_them(
    run: Run, farm: Up
) -> None:
    done = run(
        """
        def test_one_without_a_marker(icebus_boards):
            [result] = icebus_boards.evaluate(["BITSTREAM"])
            assert 1500 < result.pulses <= 1600

        @pytest.mark.icebus(count=2, labels={"virtual": True, "chip": "rp2040"})
        def test_some(icebus_boards, icebus_client):
            assert len(icebus_boards.serials) == 2
            assert sum(each.user == "ann" for each in icebus_client.devices()) == 2
            assert icebus_boards.kind == "pulsecount"

        @pytest.mark.icebus(count=3, kind="variance")
        class TestOfAClass:
            def test_its_own(self, icebus_boards):
                assert (len(icebus_boards.serials), icebus_boards.kind) == (3, "variance")

            @pytest.mark.icebus(count=1)
            def test_what_a_test_says_goes_before(self, icebus_boards):
                assert (len(icebus_boards.serials), icebus_boards.kind) == (1, "variance")

        def test_a_program_finds_the_farm_too(icebus_farm):
            assert icebus_farm.environment == {"ICEBUS_FARM": "ann"}
            with icebus_farm.client() as client:
                assert client.user == "ann"

        @pytest.mark.icebus(count=3)
        def test_that_fails_lets_go_too(icebus_boards):
            assert False
        """,
        "--icebus-farm=ann",
    )
    done.assert_outcomes(passed=5, failed=1)
    assert held(farm) == 0


def test_given_markers_where_no_test_takes_boards_when_collected_then_each_is_warned_of(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of several processes the first warns, and this may be any of them.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.icebus(count=2)
        def test_forgotten(): pass

        @pytest.mark.icebus(count=3)
        class TestForgotten:
            def test_one(self): pass
            def test_two(self): pass

        @pytest.mark.icebus(count=4)
        class TestSome:
            def test_without(self): pass
            def test_with(self, icebus_farm): pass

        @pytest.mark.icebus(count=5)
        @pytest.mark.usefixtures("icebus_boards")
        def test_remembered(): pass
        """
    )
    collect = ("-p", "no:cacheprovider", "--collect-only", "-Wdefault")
    everything = pytester.runpytest_inprocess(*collect).stdout.str()
    assert everything.count("reserves nothing") == 2
    assert "icebus of test_forgotten reserves nothing: the test takes none" in everything
    assert (
        "icebus of TestForgotten reserves nothing: no test that stands there takes one"
        in everything
    )
    chosen = next(pytester.path.glob("*.py")).name + "::TestSome::test_without"
    assert "reserves nothing" not in pytester.runpytest_inprocess(*collect, chosen).stdout.str()


@pytest.mark.parametrize("ci", ["", "true"])
def test_given_no_farm_when_tests_run_then_they_are_skipped_with_a_reason_or_fail_in_ci(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = run(
        """
        def test_one(icebus_boards): pass
        def test_two(icebus_client): pass
        def test_without(): pass
        """
    )
    done.assert_outcomes(passed=1, **{"errors" if ci else "skipped": 2})
    done.stdout.fnmatch_lines(["*there is no farm to test on*icebus up*"])


def test_given_a_farm_by_its_url_then_programs_find_it_and_its_password_is_not_shown() -> None:
    farm = Farm("mqtt://ann:secret@127.0.0.1:1")
    assert farm.environment == {"ICEBUS_URL": "mqtt://ann:secret@127.0.0.1:1"}
    assert "secret" not in repr(farm)


def test_given_boards_that_others_hold_when_waited_in_vain_then_it_says_who_holds_them(
    run: Run, farm: Up
) -> None:
    with PulseCountClient(farm="ben") as client, client.reserve(2) as boards:
        done = run(
            """
            @pytest.mark.icebus(count=2)
            def test_two(icebus_boards): pass
            """,
            "--icebus-wait=0.2",
        )
        done.assert_outcomes(errors=1)
        done.stdout.fnmatch_lines(
            [
                "no boards for this test: *not_enough_devices* waited 0.2 s for 2 devices*",
                f"  ben holds *{boards.serials[0]}* for pulsecount until *(reservation *)",
            ]
        )


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("2", "takes names, as in icebus(count=2), not 2"),
        ("cuont=2", "has no 'cuont'; it has count, kind, labels"),
        ("labels={'rack': 'b,!virtual'}", "no board can have the label rack='b,!virtual'"),
        ("labels={1: 2.5, 'x': ' '}", "no board can have the label x=' '"),
        ("wait=float('nan')", "wait of @pytest.mark.icebus is a number of seconds, not nan"),
        ("labels=3", "labels of @pytest.mark.icebus are a dict or a selector, not 3"),
        ("client='Mine'", "client of @pytest.mark.icebus is a class of clients, not 'Mine'"),
        ("count=0", "[invalid_request]"),
        ("kind='nosuch'", "[unknown_kind]"),
        ("labels='chip=z80'", "3 with other labels"),
    ],
)
def test_given_a_marker_that_is_wrong_when_run_then_the_test_says_how(
    run: Run, marker: str, told: str
) -> None:
    done = run(f"@pytest.mark.icebus({marker})\ndef test(icebus_boards): pass")
    done.assert_outcomes(errors=1)
    assert told in done.stdout.str()


@pytest.mark.parametrize("option", ["--icebus-farm=", "--icebus-wait=inf", "--icebus-wait=soon"])
def test_given_an_option_that_is_wrong_then_nothing_is_run(run: Run, option: str) -> None:
    done = run("def test(): pass", option)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{option.partition('=')[0]}*"])


def test_given_several_processes_when_they_want_more_boards_than_there_are_then_they_take_turns(
    run: Run, farm: Up
) -> None:
    done = run(
        """
        @pytest.mark.icebus(count=2)
        @pytest.mark.parametrize("number", range(3))
        def test_two(icebus_boards, number):
            results = list(icebus_boards.evaluate(["BITSTREAM"]))
            assert len(results) == 2
        """,
        "-n2",
        inline=False,
    )
    done.assert_outcomes(passed=3)
    assert held(farm) == 0


def test_given_pytest_starts_then_nothing_of_the_client_is_loaded() -> None:
    heavy = [
        "pydantic",
        "paho",
        "rich",
        "typer",
        "icebus.schemas",
        "icebus.bus",
        "icebus.client._client",
    ]
    code = f"""
import sys, pytest
before = set(sys.modules)
import icebus.client.pytest_plugin
assert not [each for each in {heavy} if each in sys.modules]
assert len(new := set(sys.modules) - before) < 10, new
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
