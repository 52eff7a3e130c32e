"""A part for tests: answers GET /ready on $DUMMY_PORT. With `crash` it ends with a message instead; with `deaf` it runs
and never listens."""

import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if "crash" in sys.argv:
    sys.exit("dummy: the dam is dry")
if "deaf" in sys.argv:
    time.sleep(600)
if "child" in sys.argv:
    subprocess.Popen(["sleep", "600"])
print("dummy: serving", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["DUMMY_PORT"])), Handler).serve_forever()
