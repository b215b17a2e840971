"""whip_sessions.py URL STREAM_ID COUNT: opens and ends COUNT WebRTC sessions, publishers and viewers, a few at a time.

In turn: connected and left by DELETE; connected and left by closing alone; left before it connected; the client gone
before its answer. Prints how many of those that were to connect did.
"""
import asyncio
import json
import random
import socket
import sys
import urllib.parse
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import VideoStreamTrack

url, stream, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
AT_ONCE = 4
connected = 0


def call(method, address, body=None, kind="application/sdp"):
    request = urllib.request.Request(address, body, {"Content-Type": kind} if body else {}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(answer.headers), answer.read().decode()


def vanish(address, offer):
    """Send an offer and hang up at once."""
    parts = urllib.parse.urlsplit(address)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/sdp\r\nContent-Length: {len(offer)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as s:
        s.sendall(head.encode() + offer)


async def once(i, whip, whep):
    global connected
    publishes, way = i % 3 == 0, i % 4
    address = whip if publishes else whep
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    if publishes:
        pc.addTrack(VideoStreamTrack())
    else:
        pc.addTransceiver("video", direction="recvonly")
    up = asyncio.get_running_loop().create_future()

    @pc.on("connectionstatechange")
    def changed():
        if pc.connectionState in ("connected", "failed") and not up.done():
            up.set_result(pc.connectionState)

    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp.encode()
    if way == 3:
        await asyncio.to_thread(vanish, address, offer)
    else:
        headers, answer = await asyncio.to_thread(call, "POST", address, offer)
        session = urllib.parse.urljoin(address, headers["Location"])
        if way != 2:
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            good = await asyncio.wait_for(up, 30) == "connected"
            connected += good
            await asyncio.sleep(random.random() / 4)
        if way != 1:
            try:
                await asyncio.to_thread(call, "DELETE", session)
            except urllib.error.HTTPError as e:  # another publisher has taken the stream
                assert publishes and e.code == 404, e
    await pc.close()


async def main():
    about = json.loads(call("GET", f"{url}/api/v1/streams/{stream}")[1])
    whip, whep = f'{url}/live/{about["publish_key"]}/whip', f'{url}/live/{about["playback_id"]}/whep'
    numbers = iter(range(count))

    async def work():
        for i in numbers:
            await once(i, whip, whep)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    print(connected)


asyncio.run(main())
