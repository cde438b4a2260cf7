"""Google Cloud's word that it is about to take a machine, from the machine's metadata server.

A virtual machine hears no signal before the maintenance of its host, nor, where processes were
started by ssh, before a spot machine is taken: the metadata server alone knows
(https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice).
"""

from __future__ import annotations

import http.client
import os
import pathlib
import threading
from collections.abc import Callable

NOTICES = {
    "instance/maintenance-event": ("TERMINATE_ON_HOST_MAINTENANCE", "maintenance of the host"),
    "instance/preempted": ("TRUE", "preemption of the machine"),
}
"""What is read, the answer that is a notice, and what it tells of."""
EVERY = 5.0
"""Seconds between readings; a spot machine has 30 left when it is told."""
HOST = "GCE_METADATA_HOST"
"""The environment variable with the server's address, which Google's own libraries read."""
_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")


class NoticeWatch:
    """Reads the metadata server in a thread, on machines that have one, until it tells of an end.

    Args:
      tell: is called once, with what is about to happen.
      every: seconds between readings.
    """

    def __init__(self, tell: Callable[[str], object], every: float = EVERY):
        self._tell, self._every = tell, every
        self._is_over = threading.Event()
        self._server = metadata_server()
        if self._server is not None:
            threading.Thread(target=self._watch, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """Ends the readings."""
        self._is_over.set()

    def _watch(self, server: str) -> None:
        while not self._is_over.is_set():
            for key, (notice, what) in NOTICES.items():
                if read_metadata(server, key) == notice:
                    self._tell(what)
                    return
            self._is_over.wait(self._every)


def metadata_server() -> str | None:
    """Returns the address of this machine's metadata server; None if it is not Google Cloud's."""
    if os.environ.get(HOST):
        return os.environ[HOST]
    try:
        is_google = "Google" in _PRODUCT.read_text()
    except OSError:
        return None
    return "metadata.google.internal" if is_google else None


def read_metadata(server: str, key: str) -> str | None:
    """Returns what a metadata server says under a key; None if it cannot be asked."""
    connection = http.client.HTTPConnection(server, timeout=5)
    try:
        connection.request(
            "GET", f"/computeMetadata/v1/{key}", headers={"Metadata-Flavor": "Google"}
        )
        answer = connection.getresponse()
        return answer.read(1000).decode(errors="replace").strip() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
