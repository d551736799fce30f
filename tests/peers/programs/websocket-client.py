"""`websockets` as WebSocket client: `websocket-client.py URL`."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from transcript import body, case, letters

base = sys.argv[1].replace("http", "ws", 1)


def told(message):
    return ["text", body(message.encode())] if isinstance(message, str) else ["bytes", body(message)]


async def talk(name, messages, **options):
    async with connect(f"{base}/echo", max_size=None, proxy=None, **options) as socket:
        echoed = []
        for message in messages:
            await socket.send(message)
            echoed.append(told(await socket.recv()))
        case(name, protocol=socket.subprotocol, extensions=[e.name for e in socket.protocol.extensions], status=socket.response.status_code, echoed=echoed)
        await socket.close(4001, "enough")
        case(f"{name}: the end", code=socket.close_code, reason=socket.close_reason)


async def main():
    await talk("texts", ["", "a", "gr\u00fc\u00df", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536], compression=None)
    await talk("bytes", [b"", b"a", letters(126), letters(70_000), letters(4 << 20)], compression=None)
    await talk("compressed", ["a" * 100_000, letters(200_000)])
    await talk("a sub-protocol", ["hello"], subprotocols=["chat", "superchat"])
    await talk("fields", ["hello"], additional_headers={"X-Mixed": "1"}, origin="http://shop.test")
    await talk("fragments", [["one ", "two ", "three"], [b"1", b"2"]], compression=None)
    try:
        await connect(f"{base}/refuse", proxy=None)
    except InvalidStatus as refused:
        case("refused", status=refused.response.status_code)
    for code in (1000, 1001, 1008, 1011, 3000, 4999):
        async with connect(f"{base}/close/{code}", proxy=None) as socket:
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                case(f"closed by the other side with {code}", code=closed.rcvd.code, reason=closed.rcvd.reason)
    async with connect(f"{base}/echo", proxy=None) as socket:
        await (await socket.ping(b"are you there"))
        case("ping")
        for at in range(2000):
            await socket.send(f"message {at}")
        in_order = [await socket.recv() == f"message {at}" for at in range(2000)]
        case("two thousand in order", in_order=sum(in_order))
    async with connect(f"{base}/greet", proxy=None) as socket:
        case("the other side speaks first", greeting=await socket.recv())

    async def one(at):
        async with connect(f"{base}/echo", proxy=None) as socket:
            await socket.send(f"socket {at}")
            return await socket.recv()

    case("fifty at once", together=await asyncio.gather(*(one(at) for at in range(50))))


asyncio.run(main())
