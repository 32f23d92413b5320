"""A method's signature is its contract; a kind may come from any package."""

from __future__ import annotations

import base64
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import BaseModel, Field

from icebus.schemas.errors import BlobMissing, InvalidRequest
from icebus.schemas.files import Blob, File
from icebus.schemas.ids import Id
from icebus.schemas.message import Message
from icebus.worker.device.actor import DeviceActor
from icebus.worker.installed import Installed
from icebus.worker.states import (
    Event,
    Hold,
    Host,
    Measuring,
    Reservable,
    _registry,
    installed_kinds,
    method,
    reservable,
)
from icebus.worker.states._methods import Method
from icebus.worker.states.core import CoreHost
from icebus.worker.states.kinds.pulsecount import PulseCount
from icebus.worker.states.kinds.variance import Variance

ATTRIBUTES = ("name", "board", "desired", "firmware")
"""What a device has besides methods and properties."""

SHIPPED = {"pulsecount", "variance"}
"""The kinds that icebus itself brings."""


class Blinked(Message):
    times: int


@reservable("blink", firmware="default")
class Blink(Reservable):
    """Blinks."""

    class Args(Reservable.Args):
        colour: str = "green"

    blinked = Event(Blinked, "It has blinked.")

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__(hold, args)
        self.calls: list[Any] = []

    @method
    def blink(self, times: Annotated[int, Field(ge=1)], who: Id = "me") -> list[Blinked]:
        """Blink that often."""
        self.calls.append((times, who))
        return [Blinked(times=times)]

    @method
    def show(self, files: list[File], validate: bool = True, copy: int = 1) -> str:
        self.calls.append((files, validate, copy))
        return files[0].name

    def secret(self) -> None:
        """Not for clients."""


class Blobs:
    def __init__(self, *contents: bytes) -> None:
        self._blobs = {blob.sha256: blob for blob in map(Blob.of, contents)}

    def __call__(self, sha256: str) -> Blob | None:
        return self._blobs.get(sha256)


def state() -> Blink:
    return Blink(Hold("r1", "alice"), Blink.Args())


def test_given_a_state_then_only_its_marked_methods_and_events_are_offered() -> None:
    assert set(Blink.methods) == {"blink", "show"}
    assert set(Blink.events) == {"blinked"}
    info = Blink.info()
    assert (info.description, info.all_firmware) == ("Blinks.", ("default",))
    assert info.methods["blink"].description == "Blink that often."
    assert info.events["blinked"].data["properties"]["times"]["type"] == "integer"
    assert info.args["properties"]["colour"]["default"] == "green"


def test_given_a_kind_that_measures_then_it_is_told_with_what_measurements_take() -> None:
    pulsecount, blink = installed_kinds()["pulsecount"].info(), Blink.info()
    assert (pulsecount.measures, blink.measures) == (True, False)
    args = pulsecount.methods["evaluate"].args["properties"]["args"]
    assert (args["type"], set(args["properties"])) == ("object", {"pins", "window"})
    properties = pulsecount.events["results"].data["properties"]
    assert properties["cdone"]["table"] is False


def test_given_a_kind_that_measures_without_a_result_then_it_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="results"):
        reservable("blank", firmware="default")(type("Blank", (Measuring,), {}))


def test_given_the_state_of_a_kind_then_it_sees_little_of_its_device() -> None:
    seen = {name for name in vars(Host) if not name.startswith("_")}
    steps = {"after", "emit", "emit_json", "fail", "finished"} | {"acknowledged", "evaluated"}
    assert seen == {"name", "board", "firmware", "port", "journal"} | steps
    core = {name for name in vars(CoreHost) if not name.startswith("_")}
    assert not core & seen
    assert all(hasattr(DeviceActor, name) for name in (core | seen) - {*ATTRIBUTES})


def test_given_a_signature_then_its_schema_says_the_same() -> None:
    info = Blink.methods["blink"].info()
    jsonschema.validate({"times": 3}, info.args)
    jsonschema.validate([{"times": 3}], info.returns)
    assert info.args["required"] == ["times"]
    assert info.args["additionalProperties"] is False
    wrongs: list[dict[str, Any]] = [{}, {"times": 0}, {"times": "x"}, {"times": 1, "x": 1}]
    for wrong in wrongs:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, info.args)
        with pytest.raises(InvalidRequest):
            Blink.methods["blink"].parse(wrong, Blobs())


def test_given_valid_arguments_then_the_method_gets_them_typed_and_answers_in_json() -> None:
    blink = state()
    arguments = Blink.methods["blink"].parse({"times": 2}, Blobs())
    assert Blink.methods["blink"].call(blink, arguments) == [{"times": 2}]
    assert blink.calls == [(2, "me")]


def test_given_parameters_named_like_a_models_own_attributes_then_they_work() -> None:
    blink = state()
    data = base64.b64encode(b"x").decode()
    args = {"files": [{"name": "a", "data": data}], "validate": False, "copy": 7}
    arguments = Blink.methods["show"].parse(args, Blobs())
    assert Blink.methods["show"].call(blink, arguments) == "a"
    files, validate, copy = blink.calls[0]
    assert (files[0].blob.read(), validate, copy) == (b"x", False, 7)


def test_given_files_by_hash_then_they_arrive_with_their_bytes_or_all_missing_are_named() -> None:
    blobs = Blobs(b"here")
    here, away, gone = (Blob.of(content).sha256 for content in (b"here", b"away", b"gone"))
    show = Blink.methods["show"]
    arguments = show.parse({"files": [{"sha256": here}]}, blobs)
    assert arguments["files"][0].blob.read() == b"here"
    with pytest.raises(BlobMissing) as error:
        show.parse({"files": [{"sha256": sha} for sha in (here, away, gone, away)]}, blobs)
    assert error.value.details["sha256"] == sorted([away, gone])


def untyped(self: Any, x) -> int:  # type: ignore[no-untyped-def]
    return 1


def silent(self: Any, x: int):  # type: ignore[no-untyped-def]
    return 1


def many(self: Any, *x: int) -> int:
    return 1


def anything(self: Any, **x: int) -> int:
    return 1


def nameless(self: Any, x: int, /) -> int:
    return 1


@pytest.mark.parametrize("function", [untyped, silent, many, anything, nameless])
def test_given_a_signature_that_is_no_contract_then_it_is_a_type_error(function: Any) -> None:
    with pytest.raises(TypeError, match=function.__name__):
        Method.of(function)


def test_given_a_name_that_can_stand_in_no_topic_then_the_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        reservable("blink/it", firmware="default")


# --- kinds of other packages ----------------------------------------------------------------------

MODULE = """
from icebus.worker.states import Reservable, method, reservable


@reservable("{kind}", firmware="default")
class Foreign(Reservable):
    \"\"\"Made elsewhere.\"\"\"

    @method
    def ping(self) -> str:
        return "pong"


class Unregistered(Reservable):
    pass


not_a_state = 5
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a package on the path that offers these entry points."""

    def make(name: str, kind: str, *entries: str) -> None:
        (tmp_path / f"{name}.py").write_text(MODULE.format(kind=kind))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{name}-{i} = {entry}" for i, entry in enumerate(entries)]
        (info / "entry_points.txt").write_text("\n".join(["[icebus.states]", *lines, ""]))
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield make
    for module in set(sys.modules) - before:
        del sys.modules[module]


def test_given_a_package_with_a_kind_then_the_worker_offers_it(install: Any) -> None:
    install("foreign_kinds", "foreign", "foreign_kinds:Foreign")
    kinds = installed_kinds()
    assert set(kinds) == {*SHIPPED, "foreign"}
    assert kinds["foreign"].info().methods["ping"].returns == {"type": "string"}


def test_given_entries_that_are_no_kinds_then_they_are_logged_and_the_others_offered(
    install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install(
        "mixed_kinds",
        "mixed",
        "mixed_kinds:NoSuch",
        "no_such_module:Foreign",
        "mixed_kinds:not_a_state",
        "mixed_kinds:Unregistered",
        "mixed_kinds:Foreign",
    )
    assert set(installed_kinds()) == {*SHIPPED, "mixed"}
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 4


def test_given_a_second_pulsecount_then_one_of_them_is_ignored_and_that_is_logged(
    install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install("other_counts", "pulsecount", "other_counts:Foreign")
    assert set(installed_kinds()) == SHIPPED
    assert "installed twice" in caplog.text


UNFIT = {
    "no JSON schema": """
class Unfit(Reservable):
    class Args(Reservable.Args):
        function: Callable = len
""",
    "three megabytes": """
class Unfit(Reservable):
    __doc__ = "x" * 3_000_000
""",
    "no description": """
class Unfit(Reservable):
    @classmethod
    def info(cls):
        return None
""",
    "ends the program": """
class Unfit(Reservable):
    @classmethod
    def info(cls):
        raise SystemExit("bye")
""",
}


@pytest.mark.parametrize("definition", UNFIT.values(), ids=UNFIT)
def test_given_a_kind_that_can_not_be_published_then_it_is_left_out_and_that_is_logged(
    install: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, definition: str
) -> None:
    install("unfit_kinds", "fit", "unfit_kinds:Foreign", "unfit_kinds:Unfit")
    marked = definition.replace("\nclass", '\n@reservable("unfit", firmware="default")\nclass', 1)
    with (tmp_path / "unfit_kinds.py").open("a") as module:
        module.write(f"from collections.abc import Callable\n{marked}")
    assert set(installed_kinds()) == {*SHIPPED, "fit"}
    assert "unfit_kinds:Unfit is left out" in caplog.text


def test_given_more_kinds_than_fit_into_a_message_then_those_left_out_are_logged(
    install: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = _registry.length_of_info(PulseCount) + _registry.length_of_info(Variance)
    monkeypatch.setattr(_registry, "LONGEST_INFOS", 10 + shipped)
    install("foreign_kinds", "foreign", "foreign_kinds:Foreign")
    assert set(installed_kinds()) == SHIPPED
    assert "kind foreign is left out" in caplog.text


def test_given_a_kind_whose_firmware_is_not_installed_then_it_is_left_out_and_that_is_logged(
    install: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install("foreign_kinds", "foreign", "foreign_kinds:Foreign")
    module = tmp_path / "foreign_kinds.py"
    module.write_text(module.read_text().replace('"default"', '"laser"'))
    assert set(Installed.load().kinds) == SHIPPED
    assert "its firmware laser is not installed" in caplog.text
