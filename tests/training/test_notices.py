"""What Google Cloud's metadata server says of a machine's end, told by a server of one's own."""

import http.server
import threading
import time

import pytest

from jaxgen.training.notices import HOST, NoticeWatch, metadata_server
from jaxgen.training.stopping import StopSignal


class Server(http.server.BaseHTTPRequestHandler):
    answers: dict[str, str]

    def do_GET(self):
        is_asked_rightly = self.headers["Metadata-Flavor"] == "Google"
        answer = self.answers.get(self.path.removeprefix("/computeMetadata/v1/"))
        if answer is None or not is_asked_rightly:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def answers(monkeypatch):
    """What the server answers, by key; it may be changed."""
    Server.answers = {"instance/maintenance-event": "NONE", "instance/preempted": "FALSE"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(HOST, f"127.0.0.1:{server.server_port}")
    yield Server.answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "answer", "told"),
    [
        ("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", "maintenance of the host"),
        ("instance/preempted", "TRUE\n", "preemption of the machine"),
    ],
)
def test_a_notice_is_told_once_and_no_other_answer_is_one(answers, key, answer, told):
    heard, is_told = [], threading.Event()

    def tell(what):
        heard.append(what)
        is_told.set()

    watch = NoticeWatch(tell, every=0.01)
    for other in ("NONE", "MIGRATE_ON_HOST_MAINTENANCE", None):
        answers[key] = other
        assert not is_told.wait(0.1)
    answers[key] = answer
    assert is_told.wait(60)
    watch.close()
    assert heard == [told]


def test_a_signal_after_the_notice_is_the_first(answers):
    """A machine that is taken sends SIGTERM some time later, while the state is being saved."""
    answers["instance/preempted"] = "TRUE"
    with StopSignal() as stop:
        until = time.monotonic() + 60
        while stop.received is None and time.monotonic() < until:
            time.sleep(0.01)
        assert stop.received == "preemption of the machine"
        stop.note_signal("SIGTERM")
        assert stop.received == "preemption of the machine"


def test_other_machines_have_no_server(monkeypatch):
    monkeypatch.delenv(HOST, raising=False)
    assert metadata_server() is None
