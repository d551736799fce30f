"""The service `web`: asks `api` with requests. It knows nothing of proxies; it only forwards trace headers."""

import requests

from serving import Service


def answer(headers):
    below = requests.get("http://api/", headers=headers, timeout=30)
    below.raise_for_status()
    return f"web {below.text}"


Service(answer).serve()
