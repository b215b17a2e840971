"""publish.py WS_URL SECONDS [SIZE]: publishes a moving picture as JPEG over a stream's WebSocket, 20 times a second,
as a page does where nothing better works. Prints what the server says, a line each."""
import asyncio
import fractions
import json
import struct
import sys
import time

import av
import websockets


def pictures(size):
    """Endless JPEGs: a bright square on its way over a gradient."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width = codec.height = size
    codec.pix_fmt, codec.time_base = "yuvj420p", fractions.Fraction(1, 20)
    rows = [[bytes((200 * x // size, 200 * y // size, 60)) for x in range(size)] for y in range(size)]
    side, white = size // 4, bytes((255, 255, 255))
    i = 0
    while True:
        at = i * 8 % (size - side)
        flat = [b"".join(row[:at] + [white] * side + row[at + side:] if at <= y < at + side else row)
                for y, row in enumerate(rows)]
        shown = av.VideoFrame(size, size, "rgb24")
        pitch = shown.planes[0].line_size
        shown.planes[0].update(b"".join(line.ljust(pitch, b"\0") for line in flat))
        shown = shown.reformat(format="yuvj420p")
        shown.pts = i
        i += 1
        for packet in codec.encode(shown):
            yield bytes(packet)


async def publish(url, seconds, size):
    end, jpeg = time.monotonic() + seconds, pictures(size)
    async with websockets.connect(url, max_size=None) as ws:
        async def hear():
            async for message in ws:
                print(json.loads(message)["type"], flush=True)
        ear = asyncio.create_task(hear())
        while time.monotonic() < end and not ear.done():
            await ws.send(struct.pack("<BBBBIq", 3, 1, 0, 0, 50000, 0) + next(jpeg))
            await asyncio.sleep(0.05)
        ear.cancel()


asyncio.run(publish(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 256))
