"""A webhook receiver that checks signatures with the Standard Webhooks reference library.

Prints its port, then answers every POST with 204 if the library verifies it and 401 if not. The path names the
secret to verify with, in hexadecimal: /{hex of the secret's bytes}. Ends with its standard input.
"""

import base64
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Verifier(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        secret = base64.b64encode(bytes.fromhex(self.path.strip("/"))).decode()
        try:
            Webhook("whsec_" + secret).verify(body, dict(self.headers))
            status = 204
        except WebhookVerificationError:
            status = 401
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Verifier)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
