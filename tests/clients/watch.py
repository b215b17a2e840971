"""watch.py WS_URL SECONDS: watches a stream over its WebSocket, as a page does.

Prints one JSON line: packets, keys, bytes, the longest gap between packets in ms, the formats told, the
median age in ms (by the server's clock, asked for), and how the connection ended.
"""
import asyncio
import json
import statistics
import struct
import sys
import time

import websockets


async def watch(url, seconds):
    seen = {"packets": 0, "keys": 0, "bytes": 0, "gap_ms": 0.0, "formats": [], "age_ms": None, "end": "time"}
    ages, offset, last = [], None, None
    end = time.monotonic() + seconds
    async with websockets.connect(url, max_size=None) as ws:
        await ws.send(json.dumps({"type": "clock", "t": time.monotonic()}))
        while time.monotonic() < end:
            try:
                message = await asyncio.wait_for(ws.recv(), max(0.01, end - time.monotonic()))
            except asyncio.TimeoutError:
                break
            except websockets.ConnectionClosed as closed:
                seen["end"] = f"{closed.rcvd.code if closed.rcvd else 1006}"
                break
            now = time.monotonic()
            if isinstance(message, str):
                told = json.loads(message)
                if told["type"] == "clock":
                    offset = told["us"] - 1e6 * (told["t"] + now) / 2
                if told["type"] == "format":
                    seen["formats"].append(f'{told["codec"]} {told["w"]}x{told["h"]}')
                continue
            codec, flags, _, _, _, pts = struct.unpack_from("<BBBBIq", message)
            if codec == 4:
                continue
            seen["packets"] += 1
            seen["keys"] += flags & 1
            seen["bytes"] += len(message)
            if last is not None:
                seen["gap_ms"] = max(seen["gap_ms"], 1e3 * (now - last))
            last = now
            if offset is not None:
                ages.append((1e6 * now + offset - pts) / 1e3)
    if ages:
        seen["age_ms"] = round(statistics.median(ages), 1)
    seen["gap_ms"] = round(seen["gap_ms"])
    return seen


print(json.dumps(asyncio.run(watch(sys.argv[1], float(sys.argv[2])))))
