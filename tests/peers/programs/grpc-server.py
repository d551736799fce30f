"""A gRPC server (grpcio) without generated code: messages are bytes. Says `ready PORT`."""

import json
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

SERVICE = "couplet.test.Echo"
cancelled = {}
lock = threading.Lock()


def gone(context):
    """An event for the end of this call, under the name that the caller gave it."""
    name = dict(context.invocation_metadata()).get("x-name", "")
    with lock:
        event = cancelled.setdefault(name, threading.Event())
    context.add_callback(event.set)
    return event


def told(context):
    """Sends back what the caller sent as metadata: all of it, as text."""
    fields = sorted((name, value if isinstance(value, str) else value.hex()) for name, value in context.invocation_metadata())
    return json.dumps({"fields": fields}).encode()


def unary(request, context):
    return request


def sized(request, context):
    return b"x" * int(request)


def account(request, context):
    context.send_initial_metadata((("x-initial", "first"), ("x-initial-bin", b"\x00\xff\x01")))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-trailing", "very last"), ("x-trailing-bin", b"\xab\x00")))
    return told(context)


def compressed(request, context):
    context.set_compression(grpc.Compression.Gzip)
    return request


def status(request, context):
    code, _, message = request.decode().partition(" ")
    context.set_trailing_metadata((("x-why", "asked"),))
    context.abort(next(c for c in grpc.StatusCode if c.value[0] == int(code)), message)


def rich(request, context):
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.QuotaFailure(violations=[error_details_pb2.QuotaFailure.Violation(subject="shop", description="too many")]))
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="over the limit", details=[detail])))


def sleep(request, context):
    gone(context).wait(30)
    return b"awake"


def was_cancelled(request, context):
    with lock:
        event = cancelled.setdefault(request.decode(), threading.Event())
    return b"yes" if event.wait(20) else b"no"


def total(requests, context):
    return str(sum(len(part) for part in requests)).encode()


def first_only(requests, context):
    """Answers after the first part and never reads the others."""
    return next(requests)


def counted(request, context):
    for at in range(int(request)):
        yield b"part %d" % at


def large_parts(request, context):
    for _ in range(int(request)):
        yield b"x" * 100_000


def endless(request, context):
    event = gone(context)
    while not event.is_set():
        yield b"x" * 1000


def echo(requests, context):
    gone(context)
    for part in requests:
        yield part


def fails_midway(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def handlers():
    uu, us, su, ss = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_unary_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    return {
        "Unary": uu(unary),
        "Sized": uu(sized),
        "Account": uu(account),
        "Compressed": uu(compressed),
        "Status": uu(status),
        "Rich": uu(rich),
        "Sleep": uu(sleep),
        "WasCancelled": uu(was_cancelled),
        "Total": su(total),
        "FirstOnly": su(first_only),
        "Counted": us(counted),
        "LargeParts": us(large_parts),
        "Endless": us(endless),
        "FailsMidway": us(fails_midway),
        "Echo": ss(echo),
    }


server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers()),))
state = health.HealthServicer()
state.set("", health_pb2.HealthCheckResponse.SERVING)
state.set("shop", health_pb2.HealthCheckResponse.NOT_SERVING)
health_pb2_grpc.add_HealthServicer_to_server(state, server)
print("ready", server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
