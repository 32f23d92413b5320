"""What ends in each minute, from what workers count: nothing twice, nothing lost, never much."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from icebus.control.watch.throughput import FarmThroughput
from icebus.schemas.components import WorkerHeartbeat, WorkerLoad
from icebus.schemas.message import decode
from icebus.schemas.throughput import LARGEST_COUNT, MINUTE, MOST_MINUTES, Throughput
from icebus.schemas.topics import CONTROL_THROUGHPUT

BEGIN = 1_800_000_000.0
"""The beginning of a minute."""

SETTLE = 10.0

DAY = MOST_MINUTES * MINUTE

SECONDS = st.floats(0, 4 * MINUTE)
COUNTS = st.integers(0, 5000)
WORKERS = st.sampled_from(["w1", "w2"])


def echo(session: str, results: int | None, failures: int | None = 0) -> WorkerHeartbeat:
    load = WorkerLoad(results=results, failures=failures)
    return WorkerHeartbeat(epoch="e", sequence=0, session=session, load=load)


@dataclass
class Farm:
    """One control that counts, with a clock of its own; workers begin at nothing."""

    now: float = BEGIN
    monotonic: float = 0.0
    said: dict[str, tuple[int, int]] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.throughput = FarmThroughput(self.now - MINUTE, SETTLE)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds

    def count(self, worker: str, results: int, failures: int = 0) -> None:
        """A worker has measured so much more, and says so."""
        before = self.said.get(worker, (0, 0))
        self.said[worker] = before[0] + results, before[1] + failures
        session = f"{worker}-{self.sessions.get(worker, 0)}"
        beat = echo(session, *self.said[worker])
        self.throughput.on_echo(worker, beat, self.now, self.monotonic)

    def restart(self, worker: str) -> None:
        self.sessions[worker] = self.sessions.get(worker, 0) + 1
        self.said[worker] = 0, 0

    def told(self) -> Throughput | None:
        self.throughput.repeat()
        return self.throughput.due(self.now)


@given(st.lists(st.tuples(SECONDS, WORKERS, COUNTS, COUNTS, st.booleans()), max_size=40))
def test_given_workers_that_count_when_time_passes_then_each_outcome_is_in_one_minute(
    steps: list[tuple[float, str, int, int, bool]],
) -> None:
    farm = Farm()
    farm.count("w1", 0)
    farm.count("w2", 0)
    for seconds, worker, results, failures, again in steps:
        farm.pass_time(seconds)
        if again:
            farm.restart(worker)
        farm.count(worker, results, failures)
    farm.pass_time(MINUTE + SETTLE)
    told = farm.told()
    if told is None:
        assert not steps
        return
    assert sum(each or 0 for each in told.results) == sum(step[2] for step in steps)
    assert sum(each or 0 for each in told.failures) == sum(step[3] for step in steps)


@given(
    st.lists(
        st.tuples(
            st.floats(-2 * DAY, 2 * DAY),  # by which the clock is set
            st.floats(0, DAY),
            st.none() | st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
        ),
        max_size=12,
    )
)
def test_given_any_counts_and_clocks_when_told_then_it_is_small_and_of_the_last_day(
    steps: list[tuple[float, float, int | None, int]],
) -> None:
    farm = Farm()
    for number, (set_by, seconds, results, failures) in enumerate(steps):
        farm.now += set_by
        farm.pass_time(seconds)
        beat = echo(f"s{number // 3}", results, failures)
        farm.throughput.on_echo("w1", beat, farm.now, farm.monotonic)
        told = farm.told()
        if told is None:
            continue
        assert len(told.to_json()) < CONTROL_THROUGHPUT.limit
        ends = told.began.timestamp() + len(told.results) * MINUTE
        assert ends <= farm.now - SETTLE
        assert told.began.timestamp() >= farm.now - DAY - 3 * MINUTE
        assert decode(Throughput, told.to_json()) == told


def test_given_counts_of_a_whole_day_when_told_then_the_largest_still_fit() -> None:
    counts: list[int | None] = [LARGEST_COUNT] * MOST_MINUTES
    told = Throughput.model_validate({"began": BEGIN, "results": counts, "failures": counts})
    assert len(told.to_json()) < CONTROL_THROUGHPUT.limit


def test_given_a_broker_that_was_away_when_workers_are_heard_again_then_no_minute_stands_out() -> (
    None
):
    farm = Farm()
    farm.count("w1", 0)
    farm.pass_time(10 * MINUTE)
    farm.count("w1", 1000)
    farm.pass_time(MINUTE + SETTLE)
    farm.count("w1", 0)
    told = farm.told()
    assert told is not None
    assert told.results[:10] == [100] * 10


def test_given_a_new_control_when_it_hears_what_was_told_then_it_goes_on_from_there() -> None:
    farm = Farm()
    farm.count("w1", 0)
    for _ in range(5):
        farm.pass_time(MINUTE)
        farm.count("w1", 60, 6)
    farm.pass_time(SETTLE)
    before = farm.told()
    assert before is not None
    assert before.results == [60] * 5
    farm.throughput = FarmThroughput(farm.now, SETTLE)
    farm.throughput.on_told(before, farm.now)
    assert farm.told() == before
    for _ in range(3):
        farm.count("w1", 60, 6)
        farm.pass_time(MINUTE)
    farm.count("w1", 60, 6)
    after = farm.told()
    assert after is not None
    assert after.began == before.began
    # Of the minute in which it began it knows only a part, and says nothing.
    assert after.results == [*[60] * 5, None, 60, 60]
    assert after.failures == [*[6] * 5, None, 6, 6]


def test_given_what_was_told_when_no_minute_is_over_since_then_it_is_not_told_again() -> None:
    farm = Farm()
    farm.count("w1", 0)
    farm.pass_time(MINUTE + SETTLE)
    farm.count("w1", 6)
    assert farm.throughput.due(farm.now) is not None
    farm.pass_time(MINUTE / 2)
    assert farm.throughput.due(farm.now) is None
    farm.pass_time(MINUTE / 2)
    assert farm.throughput.due(farm.now) is not None


def test_given_a_worker_that_counts_backwards_or_not_at_all_when_heard_then_it_adds_nothing() -> (
    None
):
    farm = Farm()
    farm.count("w1", 50)
    farm.pass_time(SETTLE)
    for said in (20, None, 20):
        farm.throughput.on_echo("w1", echo("w1-0", said), farm.now, farm.monotonic)
    farm.pass_time(MINUTE)
    told = farm.told()
    assert told is not None
    assert sum(each or 0 for each in told.results) == 0
