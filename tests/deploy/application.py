"""An application that knows nothing of a sidecar: PORT to listen on, HOST:PORT of a service that it calls for every
request, with the trace headers of that request, as tracing libraries do."""

import http.client
import http.server
import sys


class Orders(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        stock = http.client.HTTPConnection(sys.argv[2], timeout=10)
        headers = {name: self.headers[name] for name in ("traceparent", "tracestate") if name in self.headers}
        stock.request("GET", "/stock", headers=headers)
        body = b"orders with " + stock.getresponse().read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Orders)
print("ready")
server.serve_forever()
