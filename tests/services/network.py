"""A network of two machines that can be cut, for tests: this one and a namespace of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
from services.processes import free_ports

HERE, THERE = "10.213.97.1", "10.213.97.2"


class Network:
    """A pair of addresses; what is cut loses every packet without a word."""

    def __init__(self) -> None:
        self.name = f"x2c-{os.getpid()}"
        self._device = f"x2c{os.getpid()}"[:15]
        self._listeners: list[socket.socket] = []
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self._device, "type", "veth", "peer", "name", "there", "netns", self.name)
            ip("addr", "add", f"{HERE}/30", "dev", self._device)
            ip("link", "set", self._device, "up")
            ip("-n", self.name, "addr", "add", f"{THERE}/30", "dev", "there")
            ip("-n", self.name, "link", "set", "there", "up")
        except BaseException:
            self.remove()
            raise

    def command(self, *line: str) -> list[str]:
        """A command line as it is run on the other machine."""
        return ["ip", "netns", "exec", self.name, *line]

    def cut(self) -> None:
        """Lose every packet from now on."""
        ip("link", "set", self._device, "down")

    def forward(self, port: int) -> int:
        """A port of this machine, as the other one sees it, that leads to one of loopback."""
        (outer,) = free_ports(1)
        listener = socket.create_server((HERE, outer))
        self._listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()
        return outer

    def remove(self) -> None:
        """Remove what was made."""
        for listener in self._listeners:
            # Ends the accept that waits in its thread, which closes it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        ip("netns", "del", self.name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _accept(listener: socket.socket, port: int) -> None:
    """Serve connections until the network is removed."""
    with listener, contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_connect, args=(near, port), daemon=True).start()


def _connect(near: socket.socket, port: int) -> None:
    """Pass on what comes from either side until one of them ends."""
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def network() -> Iterator[Network]:
    """A network; skips where this process may make none."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network of its own needs `ip` and root")
    try:
        made = Network()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network of its own cannot be made here: {error.stderr.decode().strip()}")
    yield made
    made.remove()
