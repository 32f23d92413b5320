"""One run of a program under a name: a second is refused, or the first ends, and both say why.

Whoever starts asks on a topic that only runs of that name may write and read. A run that is there
answers; one that is answered does not begin, or ends. All hear all questions in one order, that of
the broker: of runs that ask at the same time, those that come later are answered by the first.

What the broker retains of an earlier run says whether to wait for an answer. One that died has had
its last will spoken by then; one that vanished with its machine has not, and does not answer.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import Future

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.bus._roles import refuse_role
from icebus.bus._waiting import wait_for
from icebus.schemas.components import ControlState, Run, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import AlreadyRunning, DeadlineExceeded, NotAuthorized
from icebus.schemas.liveness import is_gone
from icebus.schemas.message import decode, now
from icebus.schemas.topics import CONTROL_STATE, RUN, WORKER_STATE, Role

log = logging.getLogger(__name__)

ANSWER_TIME = 3.0
"""Seconds for a run that was there to answer, which takes it milliseconds unless its machine is
overloaded."""

STATES = {Role.CONTROL: CONTROL_STATE, Role.WORKER: WORKER_STATE}


class SingleRun:
    """This run of a control or a worker, among all of its name.

    Args:
        bus: whose user is the name.
        role: of the program.
        session: of this run.
        on_other: called on the dispatcher when there is another run after all, such as one that was
            started while this one was without a connection: this one is to end.
    """

    def __init__(
        self, bus: Bus, role: Role, session: str, on_other: Callable[[AlreadyRunning], None]
    ) -> None:
        self._bus = bus
        self._role = role
        self._name = bus.address.user
        self._topic = RUN(role=role, principal=self._name)
        self._session = session
        self._since = now()
        self._on_other = on_other
        self._changed = threading.Condition()
        self._asked = False
        self._connection = 0.0
        self._begun = False
        self._before: WorkerState | ControlState | None = None
        self._other: Run | None = None

    def begin(self, deadline: Deadline) -> None:
        """Return once there is no other run. The bus is connected; not for use on the dispatcher.

        Raises:
            AlreadyRunning: there is one.
            WrongRole: our credentials are of another role.
            NotAuthorized: they are good for nothing here.
            DeadlineExceeded: the broker does not answer.
        """
        state = STATES[self._role]
        told = self._bus.subscribe(state, self._on_state, **{self._role.value: self._name})
        runs = self._bus.subscribe(RUN, self._on_run, role=self._role, principal=self._name)
        for subscription in (told, runs):
            wait_for(subscription.acknowledged, deadline, "the broker")
        try:
            wait_for(self._ask(), deadline, "the broker")
        except NotAuthorized:
            refuse_role(self._bus, self._role, f"icebus-{self._role}", deadline)
            self._begun = True  # under an access list that knows nothing of runs
            return
        try:
            self._wait_alone(deadline)
        finally:
            told.cancel()
        self._bus.on_connected(self._ask_again)

    def _wait_alone(self, deadline: Deadline) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._asked, deadline.remaining):
                raise DeadlineExceeded("the broker took a message of ours and did not return it")
            # What it retains has come before: it answers in order.
            if self._is_suspected():
                settled = lambda: self._other is not None or not self._is_suspected()  # noqa: E731
                self._changed.wait_for(settled, min(ANSWER_TIME, deadline.remaining))
            if self._other is not None:
                raise self._error(self._other)
            if self._is_suspected():
                log.warning(
                    "%s %s was there a while ago and does not answer: this run takes its place",
                    self._role,
                    self._name,
                )
            self._begun = True

    def _is_suspected(self) -> bool:
        before = self._before
        return before is not None and not is_gone(before) and before.session != self._session

    def _ask(self, answers: str | None = None) -> Future[None]:
        if answers is None:
            self._connection = self._bus.connected_at
        run = Run(
            session=self._session,
            host=platform.node(),
            pid=os.getpid(),
            since=self._since,
            answers=answers,
        )
        return self._bus.publish(self._topic, run)

    def _ask_again(self) -> None:
        """While we were away another may have begun; until the broker returns it, it answers."""
        if self._bus.connected_at != self._connection:
            self._asked = False
            self._ask()

    def _on_state(self, incoming: Incoming) -> None:
        model = STATES[self._role].model
        if incoming.payload and model is not None:
            state = decode(model, incoming.payload)
            with self._changed:
                if isinstance(state, WorkerState | ControlState):
                    self._before = state
                self._changed.notify_all()

    def _on_run(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return  # somebody asks the broker whether they may
        run = decode(Run, incoming.payload)
        with self._changed:
            if run.session == self._session:
                self._asked = self._asked or run.answers is None
            elif run.answers == self._session or (run.answers is None and self._is_before_us(run)):
                self._meet(run)
            elif run.answers is None and self._asked and self._other is None:
                again = "%s %s was started a second time, %s: that run is refused"
                log.warning(again, self._role, self._name, _where(run))
                self._ask(run.session)
            self._changed.notify_all()

    def _is_before_us(self, run: Run) -> bool:
        """Whether it is the run that the broker told us of, which is back just now."""
        return not self._begun and self._before is not None and self._before.session == run.session

    def _meet(self, run: Run) -> None:
        first, self._other = self._other is None, run
        if self._begun and first:
            self._on_other(self._error(run))

    def _error(self, run: Run) -> AlreadyRunning:
        return AlreadyRunning(
            f"{self._role} {self._name} runs already, {_where(run)}; stop that one, or give this "
            f"one credentials of its own: icebus-broker add NAME --role {self._role}",
            host=run.host,
            pid=run.pid,
            session=run.session,
            since=run.since.isoformat(),
        )


def _where(run: Run) -> str:
    since = run.since.isoformat(timespec="seconds")
    return f"on {run.host} as process {run.pid} since {since} (session {run.session})"
