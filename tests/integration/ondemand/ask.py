# SPDX-License-Identifier: Apache-2.0
"""ask.py LOG: a server that is asked whether a name may have a certificate. What it says is in the
name, unless LOG.status has a status for all; each question is a line in LOG. Prints its port."""

import http.server
import socketserver
import sys
import time
import urllib.parse

LOG = open(sys.argv[1], "a", buffering=1)


def for_all():
    try:
        with open(sys.argv[1] + ".status", encoding="ascii") as f:
            return int(f.read())
    except OSError:
        return None


class Ask(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        name = query.get("domain", [""])[0]
        LOG.write(name + "\n")
        if name.startswith("slow"):
            time.sleep(4)
        if name.startswith("dies"):
            self.connection.close()
            return
        if name.startswith("talks"):
            self.send_response(200)
            self.end_headers()
            try:
                self.wfile.write(b"yes " * 100000)
            except OSError:
                pass
            return
        if name.startswith("herd"):
            time.sleep(1)
        yes = name.startswith(("yes", "herd", "slow"))
        self.send_response(for_all() or (200 if yes else 403))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Ask)
print(server.server_address[1], flush=True)
server.serve_forever()
