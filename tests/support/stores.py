"""Object stores whose servers run in this process, each with a bucket `corpus`; their faults."""

import json
import re
import socket
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from chaos_faults.proxy import standing_before

__all__ = ["gs", "s3", "standing_before", "store"]


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
