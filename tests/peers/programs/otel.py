"""Exports traces with OpenTelemetry's SDK: `requests` of them to `web`, which calls `orders` twice, which asks a database.

Usage: otel.py URL REQUESTS
"""

import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context

url, requests = sys.argv[1], int(sys.argv[2])
providers = {}
for service in ["web", "orders"]:
    providers[service] = TracerProvider(resource=Resource.create({"service.name": service}))
    providers[service].add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
web, orders = (providers[service].get_tracer("shop") for service in ["web", "orders"])


def http(route, method="GET"):
    return {"http.request.method": method, "http.route": route}


for _ in range(requests):
    with web.start_as_current_span("GET /cart", kind=SpanKind.SERVER, attributes=http("/cart")):
        for _ in range(2):
            with web.start_as_current_span("GET", kind=SpanKind.CLIENT) as call:
                context = set_span_in_context(call)
                with orders.start_as_current_span("GET /orders/{id}", context, SpanKind.SERVER, http("/orders/{id}")):
                    with orders.start_as_current_span(
                        "SELECT orders", kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}
                    ):
                        pass

for provider in providers.values():
    provider.force_flush()
    provider.shutdown()
