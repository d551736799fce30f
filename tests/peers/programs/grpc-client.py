"""A gRPC client (grpcio): `grpc-client.py URL`. The cases of gRPC's interop tests that do not need authentication, and
health, deadlines, cancellation and rich errors."""

import hashlib
import os
import queue
import sys
import threading

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from transcript import case

scheme, target = sys.argv[1].split("://")
options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
if scheme == "https":
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
else:
    channel = grpc.insecure_channel(target, options=options)
grpc.channel_ready_future(channel).result(20)
LIMIT = 40


def named(name):
    """A name that no other client gives to a call at the same server."""
    return f"{name} of {os.getpid()}"



def short(content):
    return content.decode("latin-1") if len(content) <= 2000 else f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


def fields(metadata):
    return sorted([name, value if isinstance(value, str) else value.hex()] for name, value in metadata or ())


def ended(call):
    """What a call tells at its end."""
    return {"code": call.code().name, "details": call.details(), "initial": fields(call.initial_metadata()), "trailing": fields(call.trailing_metadata())}


def unary(name, method, request=b"", service="couplet.test.Echo", details=True, **options):
    try:
        response, call = channel.unary_unary(f"/{service}/{method}").with_call(request, **{"timeout": LIMIT, **options})
        case(name, response=short(response), **ended(call))
    except grpc.RpcError as error:
        end = ended(error)
        if not details:
            del end["details"]
        case(name, **end)
        return error


def server_stream(name, method, request=b"", **options):
    call = channel.unary_stream(f"/couplet.test.Echo/{method}")(request, **{"timeout": LIMIT, **options})
    parts = []
    try:
        for part in call:
            parts.append(short(part))
    except grpc.RpcError:
        pass
    case(name, parts=parts, **ended(call))


def client_stream(name, method, parts, **options):
    try:
        response, call = channel.stream_unary(f"/couplet.test.Echo/{method}").with_call(iter(parts), **{"timeout": LIMIT, **options})
        case(name, response=short(response), **ended(call))
    except grpc.RpcError as error:
        case(name, **ended(error))


def turns(name, count, size, **options):
    """Sends the next message only after the answer to the last one."""
    outgoing = queue.Queue()
    call = channel.stream_stream("/couplet.test.Echo/Echo")(iter(outgoing.get, None), **{"timeout": LIMIT, **options})
    seen = []
    for at in range(count):
        outgoing.put(b"%d" % at + b"x" * size)
        seen.append(short(next(call)))
    outgoing.put(None)
    rest = [short(part) for part in call]
    case(name, seen=seen, rest=rest, **ended(call))


# The interop cases.
unary("empty_unary", "Unary")
unary("large_unary", "Unary", b"x" * 4_000_000)
unary("large answer", "Sized", b"8388608")
unary("client_compressed_unary", "Unary", b"x" * 271_828, compression=grpc.Compression.Gzip)
unary("server_compressed_unary", "Compressed", b"x" * 271_828)
client_stream("client_streaming", "Total", [b"x" * size for size in (27182, 8, 1828, 45904)])
client_stream("client_compressed_streaming", "Total", [b"x" * size for size in (27182, 45904)], compression=grpc.Compression.Gzip)
server_stream("server_streaming", "LargeParts", b"4")
server_stream("a long stream", "Counted", b"3000")
server_stream("a wide stream", "LargeParts", b"100")
turns("ping_pong", 20, 0)
turns("ping_pong of large messages", 5, 300_000)
turns("empty_stream", 0, 0)
unary("custom_metadata", "Account", metadata=(("x-grpc-test-echo-initial", "test_initial"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"), ("x-twice", "1"), ("x-twice", "2")))
for code in range(1, 17):
    unary(f"status_code_and_message {code}", "Status", f"{code} test status message".encode())
unary("special_status_message", "Status", "2 \t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n".encode())
unary("a status without a message", "Status", b"5 ")
unary("unimplemented_method", "NoSuch")
unary("unimplemented_service", "Unary", service="couplet.test.NoSuch")
server_stream("a stream that fails midway", "FailsMidway")
client_stream("an answer before the end of the request", "FirstOnly", [b"first"] + [b"x" * 50_000] * 40)

# Rich errors.
status = rpc_status.from_call(unary("rich errors", "Rich"))
quota = error_details_pb2.QuotaFailure()
status.details[0].Unpack(quota)
case("rich errors, unpacked", code=status.code, message=status.message, subject=quota.violations[0].subject)

# Deadlines: the server learns of them, too.
# Whose clock ends it first, and so what is said of it, is chance: the code is the same.
unary("timeout_on_sleeping_server", "Sleep", timeout=0.5, metadata=(("x-name", named("deadline")),), details=False)
unary("the server knows that the time is over", "WasCancelled", named("deadline").encode())

# Cancellation reaches the server.
call = channel.stream_unary("/couplet.test.Echo/Total").future(iter(queue.Queue().get, None), timeout=LIMIT)
call.cancel()
case("cancel_after_begin", cancelled=call.cancelled(), code=call.code().name)

outgoing = queue.Queue()
call = channel.stream_stream("/couplet.test.Echo/Echo")(iter(outgoing.get, None), timeout=LIMIT, metadata=(("x-name", named("first")),))
outgoing.put(b"one")
first = next(call)
call.cancel()
case("cancel_after_first_response", first=short(first), code=call.code().name)
unary("the server knows that the stream was cancelled", "WasCancelled", named("first").encode())

call = channel.unary_unary("/couplet.test.Echo/Sleep").future(b"", timeout=LIMIT, metadata=(("x-name", named("unary")),))
threading.Timer(0.2, call.cancel).start()
try:
    call.result()
except grpc.FutureCancelledError:
    case("a cancelled unary call", code=call.code().name)
unary("the server knows that the call was cancelled", "WasCancelled", named("unary").encode())

call = channel.unary_stream("/couplet.test.Echo/Endless")(b"", timeout=LIMIT, metadata=(("x-name", named("endless")),))
next(call)
call.cancel()
unary("the server of an endless stream knows that nobody listens", "WasCancelled", named("endless").encode())

# Health.
stub = health_pb2_grpc.HealthStub(channel)
for service in ("", "shop"):
    case(f"health of {service!r}", status=stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT).status)
try:
    stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=LIMIT)
except grpc.RpcError as error:
    case("health of nobody", **ended(error))
watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=LIMIT)
case("health, watched", status=next(watch).status)
watch.cancel()

# Many at once, and one after the other.
together = [channel.unary_unary("/couplet.test.Echo/Unary").future(b"%d" % at, timeout=LIMIT) for at in range(200)]
case("two hundred at once", answers=[answer.result().decode() for answer in together])
for at in range(100):
    unary(f"soak {at}", "Sized", b"271828") if at % 10 == 0 else channel.unary_unary("/couplet.test.Echo/Unary")(b"", timeout=LIMIT)
channel.close()
