"""Programs that were written for iCEFARM, on a farm of icebus."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.farm.conftest import wait_until

from icebus.client._profiles.farm_directory import profile_path
from icebus.compat import icefarm
from icebus.compat.icefarm.client.drivers import (
    MultiPulseCountClient,
    PulseCountClient,
    VarMaxClient,
)
from icebus.compat.icefarm.client.lib import AbstractEventHandler, register
from icebus.compat.icefarm.client.lib.BatchClient import EvaluationFailed
from icebus.compat.icefarm.client.lib.pulsecount import PulseCountEvaluation
from icebus.compat.icefarm.client.lib.utils import DefaultBaseEventHandler, ReservationExtender
from icebus.compat.icefarm.utils import batch
from icebus.schemas.errors import (
    IcebusError,
    InvalidRequest,
    MeasurementUnsupported,
    NotEnoughDevices,
)

if TYPE_CHECKING:
    from tests.command_line import Icebus
    from tests.farm.conftest import Up

PROGRAM = """
import logging, random, sys
from icefarm.client.drivers import PulseCountClient
from icefarm.client.lib.BatchClient import EvaluationFailed
from icefarm.client.lib.pulsecount import PulseCountEvaluation

client = PulseCountClient("http://localhost:8080", "search", logging.getLogger(), log_events=True)
client.reserve(1, wait_for_available=True, available_timeout=30)
client.reserve(2)
draw = random.Random(4)
population = sys.argv[1:]
best = None
for generation in range(3):
    evaluations = [PulseCountEvaluation(client.getSerials(), path) for path in population]
    fitness = {}
    for serial, evaluation, pulses in client.evaluateEvaluations(evaluations, batch_size=8):
        assert pulses is not EvaluationFailed
        fitness.setdefault(evaluation.filepath, []).append(float(pulses))
    assert all(len(values) == 3 for values in fitness.values())
    ranked = sorted(fitness, key=lambda path: abs(sum(fitness[path]) / 3 - 8000 / 20))
    best = ranked[0]
    population = draw.sample(ranked, len(ranked))
client.stop()
print("best", best)
"""


@pytest.fixture
def client(farm: Up) -> Iterator[PulseCountClient]:
    profile = str(profile_path(farm.directory, "ann"))
    client = PulseCountClient(profile, "a name of its own", logging.getLogger("icefarm"))
    wait_until(lambda: client.available() == 3)
    yield client
    client.stop()


def test_given_a_search_for_icefarm_when_its_import_is_changed_then_it_runs(
    farm: Up, tmp_path: Path, circuits: Sequence[Path]
) -> None:
    program = tmp_path / "search.py"
    program.write_text(PROGRAM.replace("from icefarm", "from icebus.compat.icefarm"))
    done = subprocess.run(
        [sys.executable, program, *circuits],
        env=farm.machine.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"best {circuits[1]}\n"


def test_given_several_reserves_then_all_devices_are_one_list(client: PulseCountClient) -> None:
    first = client.reserve(1)
    (named,) = set(client.availableDevices()[:1])
    second = client.reserveSpecific([named])
    assert sorted(client.getSerials()) == sorted([*first, named])
    assert second == [named]
    assert client.extend(first) == first
    assert sorted(client.extendAll()) == sorted([*first, named])
    with pytest.raises(NotEnoughDevices):
        client.reserve(2)
    with pytest.raises(NotEnoughDevices):
        client.reserve(2, wait_for_available=True, available_timeout=1)
    assert client.end(first) == first
    assert client.getSerials() == [named]
    assert client.endAll() == [named]
    assert client.getSerials() == []


def test_given_evaluations_for_their_own_devices_then_results_name_both(
    client: PulseCountClient, circuits: Sequence[Path]
) -> None:
    one, two = client.reserve(2)
    asked = [
        PulseCountEvaluation([one, two], circuits[0]),
        PulseCountEvaluation([two], circuits[1]),
    ]
    results = list(client.evaluateEvaluations(asked))
    assert Counter((each.serial, each.evaluation) for each in results) == {
        (one, asked[0]): 1,
        (two, asked[0]): 1,
        (two, asked[1]): 1,
    }
    assert all(isinstance(value, int) and serial and path for serial, path, value in results)
    paths = {(serial, path) for serial, path, _ in client.evaluateBitstreams([circuits[2]])}
    assert paths == {(one, circuits[2]), (two, circuits[2])}


def test_given_a_broken_file_and_a_board_that_goes_then_failures_are_typed_and_the_rest_comes(
    client: PulseCountClient, icebus: Icebus, circuits: Sequence[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"nothing")
    lost, kept = client.reserve(2)
    files = [circuits[0]] * 60 + [broken]
    results = []
    for result in client.evaluateBitstreams(files):
        results.append(result)
        if len(results) == 5:
            icebus("--farm", "admin", "admin", "quarantine", lost, "--reason", "it hangs")
    try:
        assert Counter(each.serial for each in results) == {lost: 61, kept: 61}
        failed = [each for each in results if each.value is EvaluationFailed]
        assert {str(each.evaluation.filepath) for each in failed if each.serial == kept} == {
            str(broken)
        }
        assert sum(each.serial == lost for each in failed) > 1
        assert all(isinstance(each.error, IcebusError) for each in failed)
        assert client.getSerials() == [kept]
    finally:
        icebus("--farm", "admin", "admin", "unquarantine", lost)


def test_given_handlers_then_they_hear_of_devices_and_results_by_icefarms_names(
    client: PulseCountClient, circuits: Sequence[Path]
) -> None:
    heard: list[Any] = []

    class Handler(DefaultBaseEventHandler):
        @register("initialized", "serial")
        def begun(self, serial: str) -> None:
            heard.append(("initialized", serial))

        @register("results", "serial", "results")
        def measured(self, serial: str, results: list[Any]) -> None:
            heard.append(("results", serial, len(results)))

        @register("results", "a field that is not there")
        def never(self, field: str) -> None:
            heard.append("never")

        def handleReservationEnd(self, serial: str) -> None:  # noqa: N802
            heard.append(("end", serial))

    class Failing(AbstractEventHandler):
        @register("initialized", "serial")
        def begun(self, serial: str) -> None:
            raise ValueError(serial)

    client.addEventHandler(Failing(client.server))
    client.addEventHandler(ReservationExtender(client.server, client, client.logger))
    client.addEventHandler(Handler(client.server))
    (serial,) = client.reserve(1)
    list(client.evaluateBitstreams([circuits[0]]))
    client.endAll()
    expected = [("initialized", serial), ("results", serial, 1), ("end", serial)]
    wait_until(lambda: heard == expected)


IMPORTED = """
client.drivers: PulseCountClient VarMaxClient MultiPulseCountClient
client.drivers.PulseCountClient: PulseCountClient
client.drivers.VarMaxClient: VarMaxClient
client.drivers.MultiPulseCountClient: MultiPulseCountClient
client.lib: AbstractEventHandler register BaseClient EventServer Event
client.lib.AbstractEventHandler: AbstractEventHandler register
client.lib.BaseClient: BaseClient
client.lib.BatchClient: BatchClient Evaluation EvaluationFailed
client.lib.BatchRequest: Evaluation
client.lib.EventServer: EventServer Event
client.lib.bitstream: BitstreamEvaluation BitstreamBaseClient
client.lib.multipulsecount: PulseCountEvaluation MultiPulseCountBaseClient
client.lib.pulsecount: PulseCountEvaluation PulseCountBaseClient
client.lib.utils: DefaultBaseEventHandler LoggerEventHandler ReservationExtender AvailabilityWaiter
client.lib.varmax: VarMaxEvaluation VarMaxBaseClient
"""
"""What public programs, iCEFARM's examples and its own clients import, in its versions."""


def test_given_what_programs_import_then_all_of_it_is_there_under_its_name() -> None:
    for line in IMPORTED.strip().splitlines():
        module, _, names = line.partition(":")
        found = importlib.import_module(f"icebus.compat.icefarm.{module}")
        for name in names.split():
            assert callable(getattr(found, name)), f"{module}.{name}"


def test_given_several_pins_when_boards_count_only_one_then_it_is_said(
    farm: Up, circuits: list[str]
) -> None:
    client = MultiPulseCountClient(str(profile_path(farm.directory, "ann")), "search")
    try:
        [serial] = client.reserve([client.availableDevices()[0]], kind="multipulsecount")
        [result] = client.evaluateBitstreams(circuits[-1:])
        assert (result.serial, result.value) == (serial, EvaluationFailed)
        assert isinstance(result.error, MeasurementUnsupported)
    finally:
        client.stop()


def test_given_the_variance_client_then_values_are_a_fitness_or_with_it_the_samples(
    farm: Up, circuits: Sequence[Path]
) -> None:
    profile = str(profile_path(farm.directory, "ann"))
    client = VarMaxClient(profile, "waves", logging.getLogger("icefarm"), send_waveform=True)
    try:
        client.reserve(1, wait_for_available=True, available_timeout=60)
        ((_, _, (fitness, samples)),) = client.evaluateBitstreams([circuits[0]])
        changes = [abs(after - before) for before, after in pairwise(samples)]
        assert fitness == pytest.approx(sum(changes) / len(samples))
        client.send_waveform = False
        ((_, _, alone),) = client.evaluateBitstreams([circuits[0]])
        assert isinstance(alone, float)
    finally:
        client.stop()


def test_given_what_has_no_counterpart_when_used_then_it_says_so(client: PulseCountClient) -> None:
    with pytest.raises(InvalidRequest, match="requestWorker has no counterpart"):
        client.requestWorker("serial", "event", {})
    with pytest.raises(AttributeError):
        client.nonsense  # noqa: B018
    with pytest.raises(InvalidRequest, match="reserves for pulsecount, not for variance"):
        client.reserve(1, kind="variance")
    with pytest.raises(InvalidRequest, match=r"reserve\(1\) first"):
        list(
            client.evaluateBitstreams([]) if client.getSerials() else client.evaluateEvaluations([])
        )
    with pytest.raises(InvalidRequest, match="needs a device"):
        PulseCountEvaluation([], "a.bin")


def test_given_items_when_batched_then_they_are_dealt_out_in_turn() -> None:
    assert batch(range(5), 2) == [[0, 2, 4], [1, 3]]
    assert set(icefarm.__all__) == {name for name in dir(icefarm) if name in icefarm.__all__}
