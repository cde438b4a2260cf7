"""Object stores whose servers run in this process, each with a bucket `corpus`; their faults."""

import contextlib
import json
import re
import socket
import socketserver
import threading
import time

import pytest


@pytest.fixture(scope="module")
def s3():
    """The endpoint of an S3 server in this process, with a bucket `corpus`."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs("corpus", exist_ok=True)  # Buckets outlive a server.
        yield server
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def gs():
    """A server of Google Cloud Storage's interface in this process, with a bucket `corpus`."""
    gcsfs = pytest.importorskip("gcsfs")
    server_module = pytest.importorskip("gcp_storage_emulator.server")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    plain = server_module._read_data

    def read_data(handler, query):
        """Reads an upload of one request, of which the emulator's parser of letters loses bytes."""
        kind = handler.headers.get("Content-Type") or ""
        if not kind.startswith("multipart/related"):
            return plain(handler, query)
        data = server_module._decode_raw_data(server_module._read_raw_data(handler), handler)
        boundary = re.split("boundary=['\"]?", kind)[1].rstrip("'\"").encode()
        _, meta, content = data.split(b"--" + boundary, 2)
        content = content[: content.rindex(b"--" + boundary + b"--")].removesuffix(b"\n")
        return {
            "meta": json.loads(meta.partition(b"\n\n")[2]),
            "content": content.partition(b"\n\n")[2],
            "content-type": "application/octet-stream",
        }

    server = server_module.create_server("127.0.0.1", port, in_memory=True, default_bucket="corpus")
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "_read_data", read_data)
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # Another interface, by gRPC.
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield server
        gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["s3", "gs"])
def store(request):
    """The scheme of a store whose server runs."""
    request.getfixturevalue(request.param)
    return request.param


class Proxy(socketserver.ThreadingTCPServer):
    """Stands before a server, and does to connections what networks and busy stores do.

    Attributes:
      cuts_left: how many connections are cut off in the middle of an answer.
      cut_after: so many bytes of it.
      fault: what befalls requests from now on: "500", an answer instead of the server's; "cut", in
        the middle of a request; "slow"; None: nothing.
      faults_left: how many; then there are no more.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self, host, port):
        self.target = (host, port)
        self.cuts_left, self.cut_after = 0, 0
        self.fault, self.faults_left, self.faults = None, 10**9, 0
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def take_fault(self):
        if self.fault is None or self.faults_left == 0:
            return None
        self.faults_left -= 1
        self.faults += 1
        return self.fault


class _ProxyHandler(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self):
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

    def forward(self, inner):
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
def standing_before(host, port):
    """A proxy before a server, until the block is left."""
    with Proxy(host, port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
