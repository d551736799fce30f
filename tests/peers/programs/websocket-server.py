"""`websockets` as WebSocket server. Says `ready PORT`. The same routes as websocket-server.mjs."""

import asyncio
import http
import logging

from websockets.asyncio.server import serve

logging.disable(logging.CRITICAL)


async def speak(peer):
    _, route, *arguments = peer.request.path.split("/")
    if route == "close":
        await peer.close(int(arguments[0]), "as asked")
        return
    if route == "greet":
        await peer.send("hello first")
    async for message in peer:
        await peer.send(message)


def refuse(peer, request):
    if request.path == "/refuse":
        return peer.respond(http.HTTPStatus.FORBIDDEN, "")


async def main():
    def choose(_, asked):
        return "chat" if "chat" in asked else None

    async with serve(speak, "127.0.0.1", 0, max_size=None, process_request=refuse, select_subprotocol=choose) as server:
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
