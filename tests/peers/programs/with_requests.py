"""requests (urllib3) as client: `with_requests.py URL`."""

import sys

import requests

from transcript import BIG, body, case, letters, pairs

base = sys.argv[1]


def tell(name, response):
    fields = pairs(response.raw.headers.items())
    case(name, status=response.status_code, reason=response.reason, fields=fields, body=body(response.content), hops=[hop.status_code for hop in response.history])


with requests.Session() as session:
    session.trust_env = False
    timeout = {"timeout": 40}
    tell("get", session.get(f"{base}/hello", **timeout))
    tell("head", session.head(f"{base}/hello", **timeout))
    tell("fields", session.get(f"{base}/headers", headers={"X-MiXeD": "1", "x-empty": "", "X-Latin": "gr\u00fc\u00df".encode("latin-1")}, **timeout))
    tell("query", session.get(f"{base}/headers", params={"a": "b c", "u": "\u00fc", "e": ""}, **timeout))
    tell("form", session.post(f"{base}/headers", data={"a": "1", "b": "2"}, **timeout))
    tell("json", session.put(f"{base}/echo", json={"a": [1, 2]}, **timeout))
    tell("multipart", session.post(f"{base}/echo", data=letters(100), headers={"content-type": "multipart/form-data; boundary=x"}, **timeout))
    tell("a large upload", session.post(f"{base}/upload", data=letters(BIG), **timeout))
    tell("a generated upload", session.post(f"{base}/upload", data=(letters(10_000) for _ in range(50)), **timeout))
    tell("a large echo", session.post(f"{base}/echo", data=letters(BIG), **timeout))
    tell("a large download", session.get(f"{base}/bytes/{BIG}", **timeout))
    tell("chunks", session.get(f"{base}/chunked", **timeout))
    tell("gzip", session.get(f"{base}/gzip", **timeout))
    tell("a redirect", session.get(f"{base}/redirect", **timeout))
    tell("cookies", session.get(f"{base}/cookies", **timeout))
    tell("cookies sent back", session.get(f"{base}/headers", **timeout))
    tell("authentication", session.get(f"{base}/headers", auth=("user", "word"), **timeout))
    for status in (204, 304, 404, 500):
        tell(f"status {status}", session.get(f"{base}/status/{status}", **timeout))
    for method in ("OPTIONS", "DELETE", "PATCH"):
        tell(f"method {method}", session.request(method, f"{base}/headers", **timeout))
    with session.get(f"{base}/events/requests", stream=True, **timeout) as stream:
        events = []
        for line in stream.iter_lines(chunk_size=1):
            events.append(line.decode())
            if not line:
                session.get(f"{base}/confirm/requests", **timeout)
        case("events as they happen", events=events)
    # An answer that is left behind half read must not spoil the next one.
    session.get(f"{base}/bytes/{BIG}", stream=True, **timeout).close()
    tell("after one left half read", session.get(f"{base}/hello", **timeout))
