"""Mosquitto in a container, for machines that have a Docker engine and no Mosquitto.

The container shares the host's network and the broker's directory, so that everything but the
process is as the embedded broker has it. That needs an engine on Linux.
"""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.process import Child
from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

IMAGE = "eclipse-mosquitto:2"


def engine_answers() -> bool:
    """Whether a Docker engine can be asked for containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        docker: Any = importlib.import_module("docker")
        try:
            docker.from_env(timeout=5).ping()
        except docker.errors.DockerException:
            return False
    return True


class ContainerBroker(EmbeddedBroker):
    """An embedded broker whose Mosquitto is a container."""

    def add_principals(self, principals: Iterable[Principal]) -> None:
        super().add_principals(principals)
        if self._child is not None and self._child.running:
            self._child.process.send_signal(signal.SIGHUP)

    def _find(self) -> str:
        return "mosquitto"

    def _launch(self, lock: int, log: Path | None) -> Child:
        # No process of ours can hold the lock; tests have a directory each.
        os.close(lock)
        if log is not None:
            log.touch(0o600)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from testcontainers.core.container import DockerContainer

            container = (
                DockerContainer(IMAGE)
                .with_command(shlex.join([self._program, "-c", str(self._files.configuration)]))
                .with_volume_mapping(str(self.directory), str(self.directory), "rw")
                .with_kwargs(network_mode="host", user=f"{os.getuid()}:{os.getgid()}")
            )
            container.start()
        return ContainerChild(container)


class ContainerChild(Child):
    """A container in the place of a child process."""

    def __init__(self, container: DockerContainer) -> None:
        self.argv = [IMAGE]
        self._container = container
        self.process: Any = ContainerProcess(container)

    def stop(self, deadline: Deadline) -> int:
        code = super().stop(deadline)
        self._container.stop()
        return code


class ContainerProcess:
    """What tests do to a broker's process, done to a container."""

    def __init__(self, container: DockerContainer) -> None:
        self._wrapped: Any = container.get_wrapped_container()
        self.pid = 0

    def poll(self) -> int | None:
        self._wrapped.reload()
        state = self._wrapped.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def send_signal(self, number: int) -> None:
        self._wrapped.kill(signal=int(number))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        return int(self._wrapped.wait(timeout=timeout)["StatusCode"])
