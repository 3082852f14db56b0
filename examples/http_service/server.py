"""A service that resizes pictures, or says that it does. It knows nothing of Arqive but HTTP, and needs only Python.

`python examples/http_service/server.py` listens on port 8080; PORT in the environment changes that.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_done: dict[str, dict[str, Any]] = {}
"""What was done, by task: a service would keep this in its database."""

_warm: set[str] = set()


class Pictures(BaseHTTPRequestHandler):
    """POST /resize with `{"picture": "cat.png", "width": 200}`."""

    def do_POST(self) -> None:
        """Do the work once for each task, however often it is asked for."""
        task_id = self.headers.get("Arqive-Task-Id", "")
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not str(job.get("picture", "")).endswith(".png"):
            self.answer(400, {"error": "only png"})  # a 4xx: the task fails, with no further attempt
        elif job["picture"] not in _warm:
            _warm.add(job["picture"])
            self.answer(503, {"error": "warming up"}, {"Retry-After": "1"})  # another attempt, one second later
        else:
            done = _done.setdefault(task_id, {"resized": job["picture"], "width": job["width"]})
            self.answer(200, done)  # a 2xx: the task is completed, this is in its result

    def answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        """Send JSON."""
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def serve(port: int) -> ThreadingHTTPServer:
    """A server on this machine, which the caller starts with `serve_forever`."""
    return ThreadingHTTPServer(("127.0.0.1", port), Pictures)


if __name__ == "__main__":
    serve(int(os.environ.get("PORT", "8080"))).serve_forever()
