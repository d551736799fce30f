"""A small HTTP service at the port in PORT, as people write them: plain standard library."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A silent service forwards nothing, like one that knows nothing of tracing.
FORWARDED = () if os.environ.get("SILENT") else ("traceparent", "tracestate")


class Service:
    """Answers GET with what `answer` makes of the trace headers to forward."""

    def __init__(self, answer):
        self.answer = answer

    def serve(self):
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                headers = {name: self.headers[name] for name in FORWARDED if name in self.headers}
                try:
                    status, body = 200, answer(headers).encode()
                except Exception as error:  # whatever went wrong below is this service's failure, too
                    status, body = 502, str(error).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
        print("ready", flush=True)
        server.serve_forever()
