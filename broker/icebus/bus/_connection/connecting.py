"""paho's client, which also tells why a connection could not be opened."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from icebus.bus._connection.tcp import NoHandshake


class ConnectingClient(paho.Client):
    """paho's client.

    Attributes:
        connect_error: why the last attempt to open a connection failed, which paho does not tell.
        before_connecting: called before each attempt, on the thread that makes it.
    """

    connect_error: Exception | None = None
    before_connecting: Callable[[], None] = staticmethod(lambda: None)

    def reconnect(self) -> MQTTErrorCode:
        """Open a connection; paho calls this for the first one, too."""
        self.before_connecting()
        return super().reconnect()

    def use_context(self, context: ssl.SSLContext) -> None:
        """Use another context from the next connection on; paho takes only one."""
        if self._ssl_context is None:
            self.tls_set_context(context)
        self._ssl_context = context

    def use_id(self, client_id: str) -> None:
        """Be another client from the next connection on."""
        self._client_id = client_id.encode()

    def use_host(self, host: str, port: int) -> None:
        """Connect there from the next connection on."""
        self._host, self._port = host, port

    def _create_socket(self) -> Any:
        try:
            return super()._create_socket()
        except (OSError, UnicodeError) as error:
            self.connect_error = error
            raise

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # paho's own leaves a connection open whose handshake fails.
        context = self._ssl_context or ssl.create_default_context()
        encrypted = context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        try:
            encrypted.settimeout(self._connect_timeout)
            encrypted.do_handshake()
        except TimeoutError:
            encrypted.close()
            raise NoHandshake from None
        except BaseException:
            encrypted.close()
            raise
        return encrypted
