"""A worker's configuration: a file, and the options that win over it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.errors import InvalidRequest
from icebus.worker.cli import app
from icebus.worker.configuration import Configuration, read_configuration
from icebus.worker.hardware.usb import Finding, NamedBoard, UsbRules
from icebus.worker.installed import Installed

DOCUMENT = (Path(__file__).parents[2] / "docs" / "worker.md").read_text()


def read(text: str, folder: Path, **options: Any) -> Configuration:
    path = folder / "worker.toml"
    path.write_text(text)
    return read_configuration(path, options)


def test_given_neither_file_nor_options_then_boards_on_usb_are_owned() -> None:
    configuration = read_configuration(None, {})
    assert configuration.owns_usb
    assert configuration.usb.finding is Finding.AUTO
    assert configuration.usb.rules == UsbRules()


def test_given_racks_then_usb_is_owned_only_where_that_is_said(tmp_path: Path) -> None:
    assert not read('racks = ["r"]', tmp_path).owns_usb
    assert read('racks = ["r"]\nusb.enabled = true', tmp_path).owns_usb
    assert read('racks = ["r"]', tmp_path, usb={"enabled": True}).owns_usb
    assert not read("usb.enabled = true", tmp_path, usb={"enabled": False}).owns_usb


def test_given_the_file_in_the_document_then_it_is_understood_as_described(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    configuration = read(text, tmp_path)
    assert configuration.owns_usb
    assert configuration.all_labels().at("1-1.2") == {"room": "b12", "bench": "3"}
    assert configuration.usb.rules == UsbRules(
        exclude=frozenset({"1-1.4"}),
        boards=(
            NamedBoard(port="1-1.2", chip=Chip.RP2040),
            NamedBoard(serial="E66138528361BB32", owned=True, labels={"fan": "old"}),
        ),
    )


def test_given_paths_then_those_of_the_file_are_beside_it(tmp_path: Path) -> None:
    configuration = read('racks = ["a", "/b"]\ndirectory = "c"', tmp_path)
    assert configuration.racks == (tmp_path / "a", Path("/b"))
    assert configuration.directory == tmp_path / "c"
    assert read('firmware.folders = ["f"]', tmp_path).firmware.folders == (tmp_path / "f",)
    assert read('racks = ["a"]', tmp_path, racks=[Path("d")]).racks == (Path("d"),)


def test_given_a_file_of_an_editor_that_marks_utf_8_then_it_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    assert read("\ufeffprobe_every = 5", tmp_path).probe_every == 5


def test_given_options_then_they_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    text = 'labels = {a = "1", b = "1"}\nprobe_every = 5\nusb.finding = "polling"'
    configuration = read(text, tmp_path, labels={"b": "2"}, usb={"enabled": True})
    assert configuration.all_labels().at("") == {"a": "1", "b": "2"}
    assert configuration.probe_every == 5
    assert configuration.usb.finding is Finding.POLLING


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = [", "is no TOML"),
        pytest.param("a = " + "[" * 100_000, "is no TOML", id="depth"),
        pytest.param("probe_every = " + "9" * 5_000, "is no TOML", id="number"),
        ("a = 1", r"a is not known here; docs/worker\.md has all keys"),
        ('[[usb.boards]]\nport = "1-1"\nchip = "rp1"', r"usb\.boards\.0\.chip must be 'rp2040'"),
        ('[[usb.boards]]\nchip = "rp2040"', r"usb\.boards\.0: .*name a port or a serial"),
        ('[[usb.boards]]\nport = "one"\n', r"usb\.boards\.0\.port"),
        ('[[usb.boards]]\nport = "1-1"\nlabels = {chip = "x"}', "chip' says what is known"),
        ('labels = {a = "b c"}', "is no label"),
        ('directory = "a\\u0000b"', "directory: .*NUL"),
        ('racks = ["a\\u0000b"]', r"racks\.0: .*NUL"),
        ('firmware.folders = ["\\u0000"]', r"firmware\.folders\.0: .*NUL"),
        ('port_labels = {one = {a = "b"}}', r"port_labels\.one"),
        ("probe_every = -1", "probe_every"),
        ('usb.finding = "magic"', r"usb\.finding must be .*'udev'"),
        ('usb.only = ["1-1/2"]', r"usb\.only\.0"),
        ('labels = {serial = "1"}', r"valid: labels: .*'serial' says what is known"),
        ('port_labels = {"1-1" = {"a b" = "1"}}', r"valid: port_labels: .*is no label"),
        ('broker = "http://x"', r"broker: .*looks like mqtts://user:password@host"),
        (
            '[[usb.boards]]\nport = "1-1"\nowned = true\n[[usb.boards]]\nport = "1-1"',
            r"usb\.boards: .*1-1 has two tables",
        ),
    ],
)
def test_given_a_file_that_is_wrong_then_the_error_names_file_key_and_remedy(
    text: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=told) as error:
        read(text, tmp_path)
    assert str(tmp_path / "worker.toml") in error.value.message


def test_given_a_file_that_cant_be_read_then_that_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InvalidRequest, match="can't read the configuration"):
            read_configuration(path, {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe4'")
    with pytest.raises(InvalidRequest, match="can't read the configuration"):
        read_configuration(tmp_path / "latin.toml", {})


def test_given_kinds_then_only_those_are_offered_and_must_be_installed() -> None:
    installed = Installed.load()
    assert installed.offering(None) is installed
    assert list(installed.offering(["pulsecount"]).kinds) == ["pulsecount"]
    with pytest.raises(InvalidRequest, match=r"kind heartrate is not installed here, but .*pulsec"):
        installed.offering(["heartrate"])


def test_given_a_configuration_when_checked_then_it_is_valid_or_the_worker_says_why(
    tmp_path: Path,
) -> None:
    runner = typer.testing.CliRunner()
    path = tmp_path / "worker.toml"
    for text, code, told in (
        ("usb.enabled = true", 0, f"{path} is valid"),
        ('kinds = ["heartrate"]', 1, "kind heartrate is not installed"),
        ("a = 1", 1, "icebus-worker: the configuration"),
        ('firmware.folders = ["images"]', 1, "images, which is no folder here"),
        ('firmware.folders = ["worker.toml"]', 1, "which is no folder here"),
        ('firmware.folders = ["."]', 0, f"{path} is valid"),
    ):
        path.write_text(text)
        result = runner.invoke(app, ["--config", str(path), "--check-config"])
        assert (result.exit_code, told in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--usb"], "which broker"),
        (["--no-usb", "--broker", "mqtt://a:b@127.0.0.1"], "no boards to own: say --usb"),
        (["--label-port", "x:a=b"], "names no USB port"),
    ],
)
def test_given_options_that_make_no_worker_then_the_error_says_what_is_missing(
    options: list[str], told: str
) -> None:
    result = typer.testing.CliRunner(env={"ICEBUS_BROKER": ""}).invoke(app, options)
    assert result.exit_code == 1
    assert told in result.output
