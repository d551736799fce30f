"""What the Python clients tell of what they saw: one line of JSON per case."""

import hashlib
import json

LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789"
BIG = 8 * 1024 * 1024 + 17


def letters(count):
    return (LETTERS * (count // len(LETTERS) + 1))[:count]


def body(content):
    """A body as it is told: small ones in full, others by their size and hash."""
    if len(content) <= 20_000:
        return content.decode("latin-1")
    return f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


def pairs(fields):
    return [[name if isinstance(name, str) else name.decode("latin-1"), value if isinstance(value, str) else value.decode("latin-1")] for name, value in fields]


def case(name, **seen):
    print(json.dumps({"case": name, **seen}), flush=True)
