"""curl as client: `curl.py URL http1.1 | http2 ORIGIN`. Heads are told as they came, byte for byte."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from transcript import BIG, body, case, letters

base, protocol, origin = sys.argv[1:]
HTTP2 = "--http2" if base.startswith("https") else "--http2-prior-knowledge"
PROTOCOL = {"http1.1": ["--http1.1"], "http2": [HTTP2]}[protocol]


def curl(name, *options, path="/headers", sends=b"", expect=0, told=True):
    """Runs curl and tells what it saw. Every case that was meant to succeed must."""
    with tempfile.NamedTemporaryFile() as dump:
        command = ["curl", "-sS", "-D", dump.name, "-m", "40", *PROTOCOL, *options, base + path]
        run = subprocess.run(command, input=sends, capture_output=True)
        blocks = dump.read().decode("latin-1").split("\r\n\r\n")
    if run.returncode != expect:
        sys.exit(f"{name}: curl ended with {run.returncode}: {run.stderr.decode()} {blocks}")
    # Interim answers come first, each with a head of its own; trailers last.
    heads = [block.split("\r\n") for block in blocks if block.startswith("HTTP/")]
    trailers = [line for block in blocks if not block.startswith("HTTP/") for line in block.split("\r\n") if line]
    if "-0" in options:
        # Which version an answer to HTTP/1.0 names is up to the server, and trailers cannot come.
        heads = [[line.replace("HTTP/1.0", "HTTP/1.1") for line in lines if not line.startswith("Trailer:")] for lines in heads]
    if "TE: trailers" not in options:
        # Trailers reach those who ask for them (RFC 9110, section 6.5.1).
        trailers = []
    if told:
        case(name, heads=heads, trailers=trailers, body="" if "--head" in options else body(run.stdout))
    return run.stdout


with tempfile.NamedTemporaryFile() as big:
    big.write(letters(BIG))
    big.flush()
    curl("get", path="/hello")
    curl("head", "--head", path="/hello")
    curl("fields as sent", "-H", "X-MiXeD-cAsE: 1", "-H", "x-lower: 2", "-H", "X-MiXeD-cAsE: 3", "-H", "X-Empty;")
    if protocol == "http1.1":
        curl("fields beyond ASCII", "-H", "X-Utf8: gr\u00fc\u00df")
    curl("a long field", "-H", "X-Long: " + "x" * 8000)
    curl("many fields", *[option for at in range(60) for option in ("-H", f"X-Many-{at}: {at}")])
    curl("many fields in an answer", path="/many")
    curl("a large download", path=f"/bytes/{BIG}")
    curl("a large upload", "-T", big.name, path="/upload")
    curl("a large upload without waiting", "-T", big.name, "-H", "Expect:", path="/upload")
    curl("an upload in chunks", "-X", "PUT", "-T", "-", "-H", "Transfer-Encoding: chunked" if protocol == "http1.1" else "X: y", path="/upload", sends=letters(300_000))
    curl("an echo", "--data-binary", "@" + big.name, "-H", "Content-Type: text/plain", path="/echo", told=False)
    curl("100-continue", "-d", "abc", "-H", "Expect: 100-continue", path="/upload")
    if protocol == "http1.1":
        curl("100-continue refused", "-d", "abc", "-H", "Expect: 100-continue", path="/refuse")
    curl("an empty post", "-d", "", path="/upload")
    for status in (200, 204, 304, 404, 500, 503):
        curl(f"status {status}", path=f"/status/{status}")
    curl("head of an error", "--head", path="/status/500")
    if origin.startswith("Node"):
        curl("an odd status", path="/reason")
    curl("trailers", path="/chunked")
    curl("trailers, asked for", "-H", "TE: trailers", "-H", "Connection: TE" if protocol == "http1.1" else "X: y", path="/chunked")
    curl("cookies", path="/cookies")
    if protocol == "http1.1":
        curl("a redirect, followed", "-L", path="/redirect")
    curl("compressed", "-H", "Accept-Encoding: gzip", path="/gzip")
    curl("not compressed", path="/gzip")
    curl("a conditional request", "-H", 'If-None-Match: "1"', path="/hello")
    curl("a range", "-r", "0-9", path="/hello")
    curl("basic authentication", "-u", "user:word")
    curl("a referer and a cookie", "-e", "http://elsewhere.test/", "-b", "a=1; b=2")
    for method in ("OPTIONS", "DELETE", "PATCH", "PURGE", "TRACE"):
        if method != "TRACE":
            curl(f"method {method}", "-X", method)
    curl("a delete with a body", "-X", "DELETE", "-d", "abc", path="/upload")
    curl("a get with a body", "-X", "GET", "-d", "abc", path="/upload")
    for path in ("/headers?a=1&b=%20c&d=%C3%BC&e=+", "/headers?", "/headers?q=" + "x" * 4000, "/headers/%2e%2e/%2F?a=b?c", "/headers/;p=1/a,b/~x", "/headers//x"):
        curl(f"path {path[:40]}", "--path-as-is", path=path)
    curl("dots as they are", "--path-as-is", path="/headers/../headers/./x")
    curl("a host of its own", "-H", "Host: shop.test:8080")
    if protocol == "http1.1":
        curl("http/1.0", "-0")
        curl("http/1.0 with a body", "-0", "-d", "abc", path="/upload")
        curl("http/1.0 and a long answer", "-0", path="/bytes/300000")
        curl("http/1.0 and an answer of unknown length", "-0", path="/chunked")
        curl("connection: close", "-H", "Connection: close")
        curl("options *", "-X", "OPTIONS", "--request-target", "*", path="")
        curl("h2c upgrade", "--http2", path="/headers")

    # Twenty requests over one connection. (Over HTTP/2 this version of curl stumbles over its second request.)
    if protocol == "http1.1":
        urls = [f"{base}/bytes/{count}" for count in range(1000, 21000, 1000)]
        downloads = [part for url in urls for part in ("-o", "/dev/null", url)]
        command = ["curl", "-sSf", "-m", "40", *PROTOCOL, "-w", "%{num_connects} %{size_download}\n", *downloads]
        run = subprocess.run(command, capture_output=True, check=True)
        case("one connection for twenty requests", connects=run.stdout.decode().split())
    # Many at once.
    with ThreadPoolExecutor(16) as pool:
        bodies = list(pool.map(lambda at: curl("many at once", path=f"/bytes/{at * 1000}", told=False), range(1, 65)))
    case("many at once", bodies=[len(part) for part in bodies])

    # Events as they happen: each is confirmed before the next is told.
    stream = subprocess.Popen(["curl", "-sSNf", "-m", "40", *PROTOCOL, f"{base}/events/{protocol}"], stdout=subprocess.PIPE)
    events = []
    for line in stream.stdout:
        events.append(line.decode().strip())
        if line == b"\n":
            curl("confirm", path=f"/confirm/{protocol}", told=False)
    case("events as they happen", events=events, code=stream.wait())
