"""A proxy before an object store, which does to it what networks and busy stores do."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator


class Proxy(socketserver.ThreadingTCPServer):
    """A server before another, which does to connections what networks and busy stores do.

    Attributes:
      cuts_left: how many connections are cut off in the middle of an answer.
      cut_after: so many bytes of it.
      fault: what befalls requests from now on: "500", an answer instead of the server's; "cut", in
        the middle of a request; "slow"; None: nothing.
      faults_left: how many; then there are no more.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self, host: str, port: int):
        self.target = (host, port)
        self.cuts_left, self.cut_after = 0, 0
        self.fault: str | None = None
        self.faults_left, self.faults = 10**9, 0
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def take_fault(self) -> str | None:
        """Returns what befalls the next request."""
        if self.fault is None or self.faults_left == 0:
            return None
        self.faults_left -= 1
        self.faults += 1
        return self.fault


class _ProxyHandler(socketserver.BaseRequestHandler):
    server: Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as inner:
            threading.Thread(target=self.forward, args=(inner,), daemon=True).start()
            sent = 0
            with contextlib.suppress(OSError):
                while data := inner.recv(2**16):
                    sent += len(data)
                    if sent > self.server.cut_after and self.server.cuts_left > 0:
                        self.server.cuts_left -= 1
                        self.request.shutdown(socket.SHUT_RDWR)
                        return
                    self.request.sendall(data)

    def forward(self, inner: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(2**16):
                fault = self.server.take_fault()
                if fault == "500":
                    self.request.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"
                        b"Connection: close\r\n\r\n"
                    )
                if fault == "cut":
                    inner.sendall(data[: len(data) // 2])
                if fault in ("500", "cut"):
                    inner.close()
                    self.request.shutdown(socket.SHUT_RDWR)
                    return
                if fault == "slow":
                    time.sleep(0.3)
                inner.sendall(data)
            inner.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def standing_before(host: str, port: int) -> Iterator[Proxy]:
    """Starts a proxy before a server, until the block is left."""
    with Proxy(host, port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
