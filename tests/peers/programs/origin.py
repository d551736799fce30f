"""The origin that the clients ask, on aiohttp. Says `ready PORT`. The same routes as origin.mjs."""

import asyncio
import gzip
import hashlib
import json

from aiohttp import web

LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789"
streams = {}


def bytes_of(count):
    return (LETTERS * (count // len(LETTERS) + 1))[:count]


async def hello(request):
    return web.Response(text="hello", headers={"X-Origin": "aiohttp", "ETag": '"1"'})


async def headers(request):
    await request.read()
    fields = [part.decode("latin-1") for pair in request.raw_headers for part in pair]
    # Of a fixed size, so that two accounts differ in nothing but what they tell.
    text = json.dumps({"method": request.method, "target": request.raw_path, "fields": fields}).ljust(16_384)
    return web.Response(text=text, content_type="application/json")


async def served(request):
    return web.Response(body=bytes_of(int(request.match_info["count"])))


async def upload(request):
    digest, count = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        count += len(part)
    return web.json_response({"bytes": count, "sha256": digest.hexdigest(), "trailers": []})


async def echo(request):
    body = await request.read()
    return web.Response(body=body, headers={"content-type": request.headers.get("content-type", "application/octet-stream")})


async def status(request):
    await request.read()
    code = int(request.match_info["code"])
    if code in (204, 304):
        return web.Response(status=code, headers={"x-empty": ""})
    return web.Response(status=code, text="status")


async def chunked(request):
    response = web.StreamResponse()
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    for part in (b"one ", b"two ", b"three"):
        await response.write(part)
    await response.write_eof()
    return response


async def events(request):
    queue = streams[request.match_info["name"]] = asyncio.Queue()
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
    await response.prepare(request)
    for at in range(3):
        await response.write(f"id: {at}\ndata: event {at}\n\n".encode())
        # The next event is told only after the client has confirmed, on another connection, that it has the last one.
        await queue.get()
    await response.write_eof()
    return response


async def confirm(request):
    name = request.match_info["name"]
    if name in streams:
        streams[name].put_nowait(None)
    return web.json_response({"confirmed": name in streams})


async def cookies(request):
    response = web.Response()
    response.headers.add("Set-Cookie", "a=1; Path=/")
    response.headers.add("Set-Cookie", "b=2; Path=/")
    return response


async def redirect(request):
    return web.Response(status=302, headers={"location": "/hello"})


async def zipped(request):
    return web.Response(
        body=gzip.compress(LETTERS * 100, mtime=0), headers={"content-encoding": "gzip", "vary": "Accept-Encoding"}
    )


async def many(request):
    return web.Response(headers={f"X-Field-{at}": (LETTERS * (at % 7)).decode() for at in range(60)})


async def refuse(request):
    return web.Response(text="not refused")


async def expectation(request):
    if request.path == "/refuse":
        raise web.HTTPExpectationFailed(text="refused", headers={"connection": "close"})
    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


app = web.Application(client_max_size=1 << 30)
for path, handler in {
    "/hello": hello,
    "/headers": headers,
    "/headers{rest:.*}": headers,
    "/bytes/{count}": served,
    "/upload": upload,
    "/echo": echo,
    "/status/{code}": status,
    "/chunked": chunked,
    "/events/{name}": events,
    "/confirm/{name}": confirm,
    "/cookies": cookies,
    "/redirect": redirect,
    "/gzip": zipped,
    "/many": many,
    "/refuse": refuse,
}.items():
    app.router.add_route("*", path, handler, expect_handler=expectation)


async def main():
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=60)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("ready", site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
