"""httpx as client: `with_httpx.py URL http1.1 | http2`, the latter by prior knowledge or, over TLS, by ALPN."""

import asyncio
import ssl
import sys

import httpx

from transcript import BIG, body, case, letters, pairs

base, protocol = sys.argv[1], sys.argv[2]


def tell(name, response):
    case(name, version=response.http_version, status=response.status_code, reason=response.reason_phrase, fields=pairs(response.headers.raw), body=body(response.content), hops=[hop.status_code for hop in response.history])


async def parts(count):
    for _ in range(count):
        yield letters(10_000)


async def main():
    limits = httpx.Limits(max_connections=4)
    options = {"http1": protocol == "http1.1", "http2": protocol == "http2", "trust_env": False, "timeout": 40, "verify": ssl.create_default_context()}
    # httpx waits for ever where one HTTP/2 connection is asked while an answer on it is being read.
    async with httpx.AsyncClient(limits=limits, follow_redirects=True, **options) as client, httpx.AsyncClient(**options) as other:
        tell("get", await client.get(f"{base}/hello"))
        tell("head", await client.head(f"{base}/hello"))
        tell("fields", await client.get(f"{base}/headers", headers=[("X-MiXeD", "1"), ("x-twice", "1"), ("x-twice", "2"), ("x-empty", "")]))
        tell("query", await client.get(f"{base}/headers", params={"a": "b c", "u": "\u00fc", "e": ""}))
        tell("form", await client.post(f"{base}/headers", data={"a": "1", "b": "2"}))
        tell("json", await client.put(f"{base}/echo", json={"a": [1, 2]}))
        tell("a large upload", await client.post(f"{base}/upload", content=letters(BIG)))
        tell("a generated upload", await client.post(f"{base}/upload", content=parts(50)))
        tell("a large download", await client.get(f"{base}/bytes/{BIG}"))
        tell("chunks", await client.get(f"{base}/chunked"))
        tell("gzip", await client.get(f"{base}/gzip"))
        tell("a redirect", await client.get(f"{base}/redirect"))
        tell("cookies", await client.get(f"{base}/cookies"))
        tell("cookies sent back", await client.get(f"{base}/headers"))
        tell("many fields", await client.get(f"{base}/many"))
        for status in (204, 304, 404, 500):
            tell(f"status {status}", await client.get(f"{base}/status/{status}"))
        for method in ("OPTIONS", "DELETE", "PATCH"):
            tell(f"method {method}", await client.request(method, f"{base}/headers"))
        answers = await asyncio.gather(*(client.get(f"{base}/bytes/{at * 5000}") for at in range(1, 51)))
        case("fifty at once", sizes=[len(answer.content) for answer in answers])
        async with client.stream("GET", f"{base}/events/httpx-{protocol}") as stream:
            events = []
            async for line in stream.aiter_lines():
                events.append(line)
                if not line:
                    await other.get(f"{base}/confirm/httpx-{protocol}")
            case("events as they happen", events=events)
        # An answer that is left behind half read must not spoil the next one.
        async with client.stream("GET", f"{base}/bytes/{BIG}") as stream:
            case("left half read", status=stream.status_code)
        tell("after one left half read", await client.get(f"{base}/hello"))


asyncio.run(main())
