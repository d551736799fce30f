"""aiohttp as client: `with_aiohttp.py URL`."""

import asyncio
import sys

import aiohttp

from transcript import BIG, body, case, letters, pairs

base = sys.argv[1]


async def tell(name, request):
    async with request as response:
        content = await response.read()
        case(name, status=response.status, reason=response.reason, fields=pairs(response.raw_headers), body=body(content), hops=[hop.status for hop in response.history])


async def parts(count):
    for _ in range(count):
        yield letters(10_000)


async def main():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session:
        await tell("get", session.get(f"{base}/hello"))
        await tell("head", session.head(f"{base}/hello"))
        await tell("fields", session.get(f"{base}/headers", headers=[("X-MiXeD", "1"), ("X-Twice", "1"), ("X-Twice", "2")]))
        await tell("query", session.get(f"{base}/headers", params={"a": "b c", "u": "\u00fc"}))
        await tell("form", session.post(f"{base}/headers", data={"a": "1", "b": "2"}))
        await tell("json", session.put(f"{base}/echo", json={"a": [1, 2]}))
        await tell("a large upload", session.post(f"{base}/upload", data=letters(BIG)))
        await tell("a generated upload", session.post(f"{base}/upload", data=parts(50)))
        await tell("an upload that waits", session.post(f"{base}/upload", data=letters(1000), expect100=True))
        await tell("a large download", session.get(f"{base}/bytes/{BIG}"))
        await tell("chunks", session.get(f"{base}/chunked"))
        await tell("gzip", session.get(f"{base}/gzip"))
        await tell("a redirect", session.get(f"{base}/redirect"))
        await tell("cookies", session.get(f"{base}/cookies"))
        await tell("cookies sent back", session.get(f"{base}/headers"))
        await tell("many fields", session.get(f"{base}/many"))
        for status in (204, 304, 404, 500):
            await tell(f"status {status}", session.get(f"{base}/status/{status}"))
        for method in ("OPTIONS", "DELETE", "PATCH"):
            await tell(f"method {method}", session.request(method, f"{base}/headers"))

        async def size(at):
            async with session.get(f"{base}/bytes/{at * 5000}") as response:
                return len(await response.read())

        case("fifty at once", sizes=await asyncio.gather(*(size(at) for at in range(1, 51))))
        async with session.get(f"{base}/events/aiohttp") as stream:
            events = []
            async for line in stream.content:
                events.append(line.decode())
                if line == b"\n":
                    async with session.get(f"{base}/confirm/aiohttp"):
                        pass
            case("events as they happen", events=events)
        # An answer that is left behind half read must not spoil the next one.
        async with session.get(f"{base}/bytes/{BIG}") as half:
            case("left half read", status=half.status)
        await tell("after one left half read", session.get(f"{base}/hello"))


asyncio.run(main())
