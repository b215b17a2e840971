"""whip_whep.py URL STREAM_ID publish|watch|through ...: an independent WebRTC client (aiortc) of a stream.

publish SECONDS RRGGBB [vp8|h264] [sound]   sends pictures of one colour, which grow in the middle of the time
watch SECONDS [vp8|h264] [sound]            prints {frames, sound, first_ms, gap_ms, colour, sizes, codec, answer_ms}
through CODEC RRGGBB                        publishes and watches at once with CODEC and sound; prints what watch prints
"""
import asyncio
import fractions
import json
import sys
import time
import urllib.parse
import urllib.request

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcrtpsender import RTCRtpSender

FPS = 30


class Colour(MediaStreamTrack):
    """One colour, 320x240, and 480x360 after `grow` seconds."""

    kind = "video"

    def __init__(self, rgb, grow):
        super().__init__()
        self.began, self.count, self.grow = time.monotonic(), 0, grow
        self.frames = [self.make(rgb, w, h) for w, h in ((320, 240), (480, 360))]

    @staticmethod
    def make(rgb, w, h):
        frame = av.VideoFrame(w, h, "rgb24")
        line = frame.planes[0].line_size
        frame.planes[0].update((rgb * w + bytes(line - 3 * w)) * h)
        return frame.reformat(format="yuv420p")

    async def recv(self):
        self.count += 1
        due = self.began + self.count / FPS
        await asyncio.sleep(max(0, due - time.monotonic()))
        source = self.frames[self.count / FPS > self.grow]
        frame = av.VideoFrame(source.width, source.height, "yuv420p")
        for to, plane in zip(frame.planes, source.planes):
            to.update(bytes(plane))
        frame.pts, frame.time_base = self.count * 90000 // FPS, fractions.Fraction(1, 90000)
        return frame


class Tone(MediaStreamTrack):
    """A square wave: 20 ms at a time, 48 kHz, stereo."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.began, self.count = time.monotonic(), 0
        self.samples = (b"\x00\x10" * 96 + b"\x00\xf0" * 96) * 10

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.count / 50 - time.monotonic()))
        frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
        frame.planes[0].update(self.samples)
        frame.pts, frame.sample_rate, frame.time_base = self.count * 960, 48000, fractions.Fraction(1, 48000)
        self.count += 1
        return frame


def call(method, url, body=None, kind="application/json"):
    request = urllib.request.Request(url, body, {"Content-Type": kind} if body else {}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, dict(answer.headers), answer.read().decode()


def only(transceiver, codec):
    all_of_them = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in all_of_them if codec in c.mimeType.lower() or "rtx" in c.mimeType])


async def negotiate(pc, url):
    """Returns the URL of the session and how long the answer took."""
    await pc.setLocalDescription(await pc.createOffer())
    began = time.monotonic()
    offer = pc.localDescription.sdp.encode()
    status, headers, text = await asyncio.to_thread(call, "POST", url, offer, "application/sdp")
    assert status == 201 and headers["Content-Type"] == "application/sdp", (status, headers)
    took = time.monotonic() - began
    await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
    return urllib.parse.urljoin(url, headers["Location"]), took


async def leave(pc, session):
    await asyncio.to_thread(call, "DELETE", session)
    await pc.close()


async def publish(url, seconds, rgb, codec, sound):
    pc = RTCPeerConnection()
    video = pc.addTransceiver(Colour(rgb, seconds / 2), direction="sendonly")
    only(video, codec)
    if sound:
        pc.addTransceiver(Tone(), direction="sendonly")
    session, _ = await negotiate(pc, url)
    await asyncio.sleep(seconds)
    await leave(pc, session)


class Seen:
    def __init__(self):
        self.frames = self.sound = 0
        self.first = self.last = None
        self.gap, self.sizes, self.colour, self.loud = 0.0, [], None, False

    async def video(self, track):
        while True:
            frame = await track.recv()
            now = time.monotonic()
            if self.last is not None:
                self.gap = max(self.gap, now - self.last)
            self.first, self.last = self.first or now, now
            self.frames += 1
            size = f"{frame.width}x{frame.height}"
            if size not in self.sizes:
                self.sizes.append(size)
            plane = frame.reformat(format="rgb24").planes[0]
            at = frame.height // 2 * plane.line_size + frame.width // 2 * 3
            self.colour = bytes(plane)[at : at + 3].hex()

    async def audio(self, track):
        while True:
            frame = await track.recv()
            self.sound += 1
            self.loud |= max(bytes(frame.planes[0])[1::2]) > 8


async def watch(url, seconds, codec, sound):
    pc, seen, tasks = RTCPeerConnection(), Seen(), []

    @pc.on("track")
    def on_track(track):
        tasks.append(asyncio.ensure_future(seen.video(track) if track.kind == "video" else seen.audio(track)))

    only(pc.addTransceiver("video", direction="recvonly"), codec)
    pc.addTransceiver("audio", direction="recvonly")
    began = time.monotonic()
    session, took = await negotiate(pc, url + ("?audio=opus" if sound else ""))
    await asyncio.sleep(seconds)
    text = pc.remoteDescription.sdp
    await leave(pc, session)
    for task in tasks:
        task.cancel()
    return {
        "frames": seen.frames,
        "sound": seen.sound,
        "loud": seen.loud,
        "first_ms": round(1e3 * (seen.first - began)) if seen.first else None,
        "gap_ms": round(1e3 * seen.gap),
        "colour": seen.colour,
        "sizes": seen.sizes,
        "answer_ms": round(1e3 * took),
        "codec": "h264" if "H264" in text else "vp8",
        "sections": ["sendonly" if "a=sendonly" in part else "inactive" for part in text.split("m=")[1:]],
    }


async def main(url, stream, what, *rest):
    about = json.loads(call("GET", f"{url}/api/v1/streams/{stream}")[2])
    whip, whep = f'{url}/live/{about["publish_key"]}/whip', f'{url}/live/{about["playback_id"]}/whep'
    codec, sound = "h264" if "h264" in rest else "vp8", "sound" in rest
    if what == "publish":
        await publish(whip, float(rest[0]), bytes.fromhex(rest[1]), codec, sound)
    elif what == "watch":
        print(json.dumps(await watch(whep, float(rest[0]), codec, sound)))
    else:
        publishing = asyncio.ensure_future(publish(whip, 8, bytes.fromhex(rest[1]), codec, True))
        print(json.dumps(await watch(whep, 7, codec, True)))
        await publishing


asyncio.run(main(*sys.argv[1:]))
