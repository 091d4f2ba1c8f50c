"""A plain HTTP/1.1 upstream of Python's standard library. Prints its address, and ends when stdin does.

http_upstream.py NAME DELAY_MS

`/status/CODE` answers with that status; a POST gets its body back; any other answer says what the request looked like.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, DELAY = sys.argv[1], int(sys.argv[2]) / 1000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Buffered: head and body leave in one piece, so that a kill does not cut a response in two.
    wbufsize = -1

    def do_GET(self):
        seen = {"method": self.command, "path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}
        self.answer(json.dumps(seen).encode(), "application/json")

    def do_POST(self):
        self.answer(self.body(), self.headers.get("content-type", "application/octet-stream"))

    do_HEAD = do_DELETE = do_GET
    do_PUT = do_POST

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body

    def answer(self, body, content_type):
        time.sleep(DELAY)
        parts = self.path.split("/")
        status = int(parts[2]) if parts[1] == "status" else 200
        self.send_response(status)
        self.send_header("x-upstream", NAME)
        self.send_header("x-twice", "one")
        self.send_header("x-twice", "two")
        if status != 204:
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=end_with_stdin, daemon=True).start()
print(f"127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
