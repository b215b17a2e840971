"""sessions.py URL STREAM_ID COUNT: opens and closes COUNT sessions of each WebSocket kind, some politely, some
by dropping the connection, some in mid-handshake, and COUNT / 4 streams by REST."""
import asyncio
import json
import socket
import sys
import urllib.request

import websockets

url, stream, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
host, port = url.removeprefix("http://").split(":")


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


async def once(path, wait_for, polite):
    ws = await websockets.connect(f"ws://{host}:{port}{path}", max_size=None)
    for _ in range(wait_for):
        await asyncio.wait_for(ws.recv(), 20)
    if polite:
        await ws.close()
    else:
        ws.transport.abort()


async def round_of(i, view, key):
    await once(f"/live/{view}/view", 2, i % 2)
    await once(f"/api/v1/streams/{stream}/control", 1, i % 3)
    if i % 4 == 0:
        other = await asyncio.to_thread(call, "POST", "/api/v1/streams", {"chain": [{"plugin": "passthrough"}]})
        await once(f'/live/{other["publish_key"]}/publish', 1, i % 8)
        await asyncio.to_thread(call, "DELETE", f'/api/v1/streams/{other["id"]}')
    if i % 5 == 0:
        with socket.create_connection((host, int(port))) as half:
            half.send(f"GET /live/{key}/publish HTTP/1.1\r\nUpgrade: webs".encode())


async def main():
    about = call("GET", f"/api/v1/streams/{stream}")
    at_once = 5
    for first in range(0, count, at_once):
        rounds = range(first, min(count, first + at_once))
        await asyncio.gather(*[round_of(i, about["playback_id"], about["publish_key"]) for i in rounds])


asyncio.run(main())
