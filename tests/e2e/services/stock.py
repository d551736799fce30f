"""The service `stock`: asks `prices` with curl."""

import subprocess

from serving import Service


def answer(headers):
    options = [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
    below = subprocess.run(["curl", "-sSf", "-m", "30", *options, "http://prices/"], capture_output=True, check=True)
    return f"stock {below.stdout.decode()}"


Service(answer).serve()
