"""Clears retained messages that nobody may leave: Mosquitto has no access list for the flag.

Whoever may publish on a topic may have the broker keep the message, by a last will too. So the
broker's service looks what is kept on topics where, by the contract, nothing is, and how many
clients each user says to have, and devices each worker, and clears the rest. Who leaves thousands
is barred: a connection that is not looked at fills the broker's memory within seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from icebus.broker.directory import BrokerDirectory
from icebus.broker.service.bars import Bars
from icebus.broker.service.excess import AT_ONCE, Excess
from icebus.broker.service.memory import HEAP, Memory
from icebus.broker.service.scanner import Answered, Message, Scanner
from icebus.broker.service.writers import Writers, looked_at
from icebus.bus import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.ids import BROKER, CONTROL
from icebus.schemas.topics import Role, Topic

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between looks, unless Mosquitto grows."""

POLL = 0.1
"""Seconds between looks at whether it does: what a flood has kept meanwhile are some megabytes."""

CONNECT_TIMEOUT = 5.0
"""Seconds for one attempt to reach the broker."""

ANSWER_TIMEOUT = 30.0
"""Seconds for the broker to say all that it keeps."""

ASK_AGAIN = 0.5
"""Seconds after which the broker is asked once more."""

SAYING = 10.0
"""Seconds after which it is said what was cleared, though more is found all the time."""

SAMPLE = 0.3
"""Seconds for which it is looked whether somebody still leaves messages."""

FLOODS = 100
"""Messages that whoever floods leaves meanwhile at least."""

PAUSE = 3.0
"""Seconds until it is looked again whether a control floods, after it was."""

NOBODY = "a control, or somebody who is known no more,"


class RetainedGuard:
    """Looks every :data:`INTERVAL` seconds, on a thread and a connection of its own.

    A connection of its own, because it reads topics that are spelt as no component would: a level
    may be anything there that the access list does not fix.

    Args:
        address: of the broker, as the principal ``broker``.
        files: the directory of the broker, which knows who is who.
        bars: bars who floods.
        interval: seconds between looks.
    """

    def __init__(
        self,
        address: BrokerAddress,
        files: BrokerDirectory,
        bars: Bars,
        interval: float = INTERVAL,
    ) -> None:
        self._address = address
        self._files = files
        self._bars = bars
        self._interval = interval
        self._memory = Memory(lambda: files.claim.pid)
        self._writers = Writers()
        self._excess = Excess()
        self._version: object = None
        self._stopping = threading.Event()
        self._scanner: Scanner | None = None
        self._live: int | None = None
        self._found: Counter[tuple[str, str]] = Counter()
        self._too_many: set[str] = set()
        self._cleared: Counter[tuple[str, str]] = Counter()
        self._cleared_since = 0.0
        self._thread = threading.Thread(target=self._run, name="retained-guard", daemon=True)

    def start(self) -> None:
        """Begin; it connects by itself and goes on trying."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """End it by the deadline."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=deadline.remaining)

    # --- its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._scanner = Scanner.connect(self._address, Deadline.after(CONNECT_TIMEOUT))
            except OSError:
                self._stopping.wait(POLL)  # the broker is being started, or has ended
                continue
            try:
                self._watch(self._scanner)
            except OSError as error:
                log.debug("the connection that looks at what the broker keeps: %s", error)
            except Exception:
                # A broker without this guard is one that anybody fills.
                log.exception("a look at what the broker keeps failed")
            finally:
                self._say(time.monotonic())
                self._scanner.close()
            self._stopping.wait(POLL)

    def _watch(self, scanner: Scanner) -> None:
        """Look now and then, until told to stop.

        Raises:
            OSError: the connection ended.
        """
        scanner.subscribe([HEAP])
        due, grown = 0.0, False
        while not self._stopping.is_set():
            if grown or time.monotonic() >= due:
                # What took a whole look to be said may have hidden more.
                again = self._look(scanner, all_of_them=grown)
                due = 0.0 if again else time.monotonic() + self._interval
                grown = grown and again
            self._say(time.monotonic() - SAYING)
            if due:
                self._take(scanner, min(POLL, self._interval))
                grown = self._memory.grown or grown

    def _look(self, scanner: Scanner, all_of_them: bool) -> bool:
        """Clear what is kept and must not be; returns whether there was any.

        Raises:
            OSError: the connection ended.
        """
        self._learn()
        self._writers.begin()
        self._found.clear()
        self._too_many.clear()
        filters = self._filters(looked_at(all_of_them))
        scanner.subscribe(filters)
        # What is kept comes before the answer to this.
        told = self._await(scanner, lambda: scanner.unsubscribe(filters))
        found = frozenset(who for who, _ in self._found)
        if told:
            self._excess.looked(found)
            if not found:
                self._say(time.monotonic())
        return bool(found)

    def _filters(self, families: list[Topic]) -> list[str]:
        return [f"{self._address.root}/{each.filter()}" for each in families]

    def _await(self, scanner: Scanner, ask: Callable[[], int]) -> bool:
        """Ask, and take what comes until it is answered; returns whether it was.

        Mosquitto drops answers, too, where more waits for us than it keeps for a client; so what is
        asked must do no harm when it is asked again.

        Raises:
            OSError: the connection ended.
        """
        deadline, again, asked = Deadline.after(ANSWER_TIMEOUT), Deadline.after(0), set()
        while not deadline.expired and not self._stopping.is_set():
            if again.expired:
                again = Deadline.after(ASK_AGAIN)
                asked.add(ask())
            if not asked.isdisjoint(self._take(scanner, POLL)):
                return True
        return False

    def _take(self, scanner: Scanner, seconds: float) -> set[int]:
        """Take what has come, or comes within so many seconds; returns which answers did.

        Raises:
            OSError: the connection ended.
        """
        answered = set()
        for each in scanner.read(seconds):
            if isinstance(each, Answered):
                answered.add(each.number)
            elif each.topic == HEAP.encode():
                self._memory.told(each.payload)
            elif each.retained and each.payload:
                self._judge(scanner, each)
        if self._live is None:
            self._bar(scanner)
        return answered

    def _judge(self, scanner: Scanner, message: Message) -> None:
        # What is no text is nobody's topic, and Mosquitto lets none through.
        topic = message.topic.decode("utf-8", "replace")
        levels = topic.removeprefix(f"{self._address.root}/").split("/")
        family = self._writers.family_of(levels)
        size = len(message.payload)
        if family is None or self._writers.may_stay(family, levels, size):
            return
        if self._live is not None and Role.CONTROL in family.writers:
            self._live += 1
        who = self._writers.principal(self._writers.named(family, levels))
        self._found[who, family.template] += 1
        self._count(who, family, size, time.monotonic())
        if self._live is None and who not in self._too_many:
            self._cleared_since = self._cleared_since or time.monotonic()
            self._cleared[who, family.template] += 1
            scanner.clear(message.topic)

    def _learn(self) -> None:
        version = self._files.version
        if version != self._version:
            try:
                self._writers.know(self._files.principals.values())
            except (IcebusError, OSError) as error:
                log.warning("can't read who is known to the broker: %s", error)
            self._version = version

    # --- who floods ---------------------------------------------------------------------------

    def _count(self, who: str, family: Topic, size: int, now: float) -> None:
        # A control may write in a worker's name; who is barred does not any more.
        if Role.CONTROL in family.writers and self._excess.is_barred(who, now):
            who = CONTROL
        if who not in self._too_many and self._excess.found(who, size, now):
            self._too_many.add(who)

    def _bar(self, scanner: Scanner) -> None:
        for who in self._too_many - {BROKER}:
            if who == CONTROL:
                self._bar_control(scanner)
            else:
                self._bar_one(who)
        self._too_many.clear()

    def _bar_one(self, who: str) -> None:
        seconds = self._excess.bar(who, time.monotonic())
        found = {
            template: count for (of, template), count in self._found.items() if of in (who, CONTROL)
        }
        most = max(found, key=lambda template: found[template], default="…")
        self._bars.bar(
            who,
            seconds,
            f"had the broker keep {AT_ONCE:,.0f} messages more than it may, or large ones, on "
            f"{most}",
        )

    def _bar_control(self, scanner: Scanner) -> None:
        """Bar a control, whose messages say only that they are a control's, if there is one.

        They may be somebody's, too, who is known no more: then nobody publishes them now.

        Raises:
            OSError: the connection ended.
        """
        self._excess.pause(CONTROL, PAUSE, time.monotonic())
        if self._still_published(scanner) >= FLOODS:
            for each in self._bars.controls(self._stopping):
                self._bar_one(each)

    def _still_published(self, scanner: Scanner) -> int:
        """How many messages that a control may have written come within :data:`SAMPLE` seconds.

        Raises:
            OSError: the connection ended.
        """
        filters = self._filters([each for each in looked_at(True) if Role.CONTROL in each.writers])
        self._live = 0
        try:
            # What is being told of what is kept comes before the answer.
            if not self._await(scanner, lambda: scanner.subscribe(filters, kept=False)):
                return 0
            self._live = 0
            deadline = Deadline.after(SAMPLE)
            while not deadline.expired and self._live < FLOODS:
                self._take(scanner, deadline.remaining)
            return self._live
        finally:
            self._live = None
            scanner.unsubscribe(filters)

    # --- what is said -------------------------------------------------------------------------

    def _say(self, before: float) -> None:
        """Say what was cleared, if that began before some time."""
        if not self._cleared or self._cleared_since > before:
            return
        cleared, self._cleared = self._cleared, Counter()
        self._cleared_since = 0.0
        for (who, template), count in cleared.items():
            log.warning(
                "cleared %d retained messages of %s on %s: nothing may be kept there, or not so "
                "much of it; publish without the retain flag",
                count,
                NOBODY if who == CONTROL else who,
                template,
                extra={"subject": who},
            )
