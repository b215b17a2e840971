"""in_force.py URL STREAM_ID FIELD COUNT: how long after its message a parameter is in force, in ms, as the control socket
acknowledges it: set when a plugin begins with its next frame."""
import asyncio
import json
import random
import statistics
import sys
import time

import websockets


async def measure(url, stream, field, count):
    took = []
    async with websockets.connect(f"ws{url[4:]}/api/v1/streams/{stream}/control", max_size=None) as ws:
        for n in range(count):
            await asyncio.sleep(random.uniform(0.03, 0.1))
            sent = time.monotonic()
            await ws.send(json.dumps({"type": "set", "link": 0, "values": {field: n % 200}, "n": n}))
            while True:
                told = json.loads(await asyncio.wait_for(ws.recv(), 10))
                if told.get("n") == n and told["type"] == "values":
                    break
            took.append(1e3 * (time.monotonic() - sent))
    took.sort()
    return {"count": count, "p50_ms": round(statistics.median(took), 1), "p95_ms": round(took[int(0.95 * count)], 1),
            "max_ms": round(took[-1], 1)}


print(json.dumps(asyncio.run(measure(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))))
