"""load.py URL SERVER_PID STREAMS SECONDS [CODEC] [SIZE]: that many pass-through streams at 30 pictures a second, each
with a publisher and a viewer over WebSocket.

Prints one JSON line: pictures a second at the viewers (the slowest, the mean), their age by the server's clock in ms,
and what the server and its workers took, in percent of one core. The pictures are coded beforehand, by FFmpeg."""
import asyncio
import json
import os
import sys
import time

from media import Encoder, Packet, Server, pack, picture

server, pid, count, seconds = Server(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
codec = sys.argv[5] if len(sys.argv) > 5 else "vp8"
size = int(sys.argv[6]) if len(sys.argv) > 6 else 512
WARM_UP = 2


def cpu():
    """Seconds that the server and its workers have taken so far."""
    def of(p):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            return 0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            children += f.read().split()
    return of(pid), sum(of(c) for c in children)


async def publish(stream, packets, n):
    async with server.socket(f'/live/{stream["publish_key"]}/publish') as ws:
        await ws.recv()
        at, wanted = 0, asyncio.Event()

        async def listen():
            async for message in ws:
                if json.loads(message)["type"] == "keyframe":
                    wanted.set()
        listener = asyncio.create_task(listen())
        await asyncio.sleep(n / 30 / count)  # not all at once
        try:
            while True:
                now = time.monotonic()
                if wanted.is_set():
                    wanted.clear()
                    at = 0  # is a key frame
                data, key = packets[at % len(packets)]
                await ws.send(pack(codec, data, key, 0, 33333))
                at += 1
                await asyncio.sleep(max(0, now + 1 / 30 - time.monotonic()))
        finally:
            listener.cancel()


async def view(stream, seen):
    async with server.socket(f'/live/{stream["playback_id"]}/view?codec={codec}') as ws:
        await ws.send(json.dumps({"type": "clock", "t": 0}))
        offset = 0
        async for message in ws:
            if isinstance(message, str):
                told = json.loads(message)
                if told["type"] == "clock":
                    offset = told["us"] - 1e6 * time.monotonic()
                continue
            now = time.monotonic()
            seen.append((now, (1e6 * now + offset - Packet(message).captured_us) / 1000))


async def main():
    encoder = Encoder(codec, size, size, bitrate=1500000, gop=60)
    packets = [encoder(picture(size, size, n)) for n in range(120)]
    streams = [server.stream([{"plugin": "passthrough"}]) for _ in range(count)]
    seen = [[] for _ in streams]
    tasks = [asyncio.create_task(t) for n, s in enumerate(streams) for t in (publish(s, packets, n), view(s, seen[n]))]
    await asyncio.sleep(WARM_UP)
    began, before = time.monotonic(), cpu()
    await asyncio.sleep(seconds)
    took, after = time.monotonic() - began, cpu()
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    rates = [sum(began <= t < began + took for t, _ in s) / took for s in seen]
    ages = sorted(age for s in seen for t, age in s if t >= began)
    for s in streams:
        server.json("DELETE", f'/api/v1/streams/{s["id"]}')
    print(json.dumps({"streams": count, "codec": codec, "size": size, "fps_min": round(min(rates), 1),
                      "fps_mean": round(sum(rates) / count, 1), "age_p50_ms": round(ages[len(ages) // 2], 1),
                      "age_p95_ms": round(ages[int(len(ages) * 0.95)], 1),
                      "host_cpu": round(100 * (after[0] - before[0]) / took, 1),
                      "workers_cpu": round(100 * (after[1] - before[1]) / took, 1)}))


asyncio.run(main())
