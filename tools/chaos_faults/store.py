"""An object store in this process, with a proxy before it that has faults when it is told to."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from chaos_faults.proxy import Proxy, standing_before
from jaxgen.runs.mirror.store import Mirror

BUCKET = "chaos"


class Store:
    """An S3 server for the mirrors of rounds.

    Attributes:
      proxy: what processes of a round reach it by.
    """

    def __init__(self, proxy: Proxy):
        self.proxy = proxy

    def url(self, name: str) -> str:
        """Returns a place in it."""
        return f"s3://{BUCKET}/{name}"

    def whole_steps(self, url: str) -> list[int]:
        """Returns the steps of the whole checkpoints of a mirror, whatever befalls others."""
        return Mirror(url).whole_steps()

    def environment(self) -> dict[str, str]:
        """Returns the variables of processes that use it."""
        return {"AWS_ENDPOINT_URL": self.proxy.url, "AWS_MAX_ATTEMPTS": "1"}


@contextlib.contextmanager
def object_store() -> Iterator[Store | None]:
    """Starts a store until the block is left; gives None where its packages are not installed."""
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # It names each request.
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    try:
        s3fs.S3FileSystem().makedirs(BUCKET, exist_ok=True)
        with standing_before(host, port) as proxy:
            yield Store(proxy)
    finally:
        server.stop()
