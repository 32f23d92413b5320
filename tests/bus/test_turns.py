"""Users take turns, whatever each of them has waiting, and whatever else goes on between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from icebus.bus import Turns


class Thread:
    """A thread that does a step when it is told to."""

    def __init__(self) -> None:
        self.inbox: deque[Callable[[], None]] = deque()
        self.done: list[str] = []
        self.users = Turns(self.inbox.append)

    def user(self, name: str, size: int = 0) -> None:
        self.users.put(name, lambda: self.done.append(name), size)

    def own(self, name: str) -> None:
        self.inbox.append(lambda: self.done.append(name))

    def run(self) -> None:
        while self.inbox:
            self.inbox.popleft()()


def test_given_a_backlog_of_one_user_then_another_has_the_next_turn_but_one() -> None:
    thread = Thread()
    for _ in range(1000):
        thread.user("mallory")
    thread.user("alice")
    thread.run()
    assert thread.done.index("alice") == 1
    assert len(thread.done) == 1001


def test_given_a_backlog_then_what_is_no_users_waits_for_one_step_only() -> None:
    thread = Thread()
    for _ in range(1000):
        thread.user("mallory")
    thread.own("heartbeat")
    thread.run()
    assert thread.done.index("heartbeat") == 1


def test_given_steps_then_their_number_and_size_are_known_until_they_are_done() -> None:
    thread = Thread()
    assert thread.users.idle
    thread.user("alice", 10)
    thread.user("alice", 20)
    thread.user("bob", 5)
    assert thread.users.waiting("alice") == (2, 30)
    assert thread.users.waiting("carol") == (0, 0)
    assert thread.users.all_waiting() == (35, 2)
    thread.run()
    assert thread.users.all_waiting() == (0, 0)
    assert thread.users.idle


def test_when_a_step_fails_then_the_others_have_their_turns() -> None:
    thread = Thread()

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    thread.users.put("alice", fail)
    thread.user("alice")
    try:
        thread.run()
    except RuntimeError:
        thread.run()
    assert thread.done == ["alice"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_given_any_steps_then_all_are_done_in_order_for_each_user(
    steps: list[tuple[str, bool]],
) -> None:
    thread = Thread()
    done: list[tuple[str, int]] = []
    for number, (user, pause) in enumerate(steps):
        thread.users.put(user, lambda entry=(user, number): done.append(entry))  # type: ignore[misc]
        if pause and thread.inbox:
            thread.inbox.popleft()()
    thread.run()
    assert sorted(number for _, number in done) == list(range(len(steps)))
    for user in "abc":
        mine = [number for name, number in done if name == user]
        assert mine == sorted(mine)
