"""websocket_media.py URL: publishes to a server and watches it over WebSocket and as MJPEG, well and badly; the
pictures are coded and decoded by FFmpeg. Prints what it has tried; the first thing that is not as host/http/README.md
says ends it with an error."""
import asyncio
import json
import random
import socket
import sys
import time

import websockets

from media import Decoder, Encoder, Packet, Server, mean_rgb, opus_packets, pack, picture

server = Server(sys.argv[1])
LIMIT = 30  # seconds for anything to happen
RED, BLUE, BROWN = (200, 30, 30), (40, 60, 210), (150, 110, 60)


def near(a, b):
    """Within 3 levels on average: two encoders have been at it."""
    return sum(abs(x - y) for x, y in zip(a, b)) <= 9


async def shows(viewer, rgb, what, tries=90):
    """The viewer sees this colour; encoders take a few pictures to get there."""
    for _ in range(tries):
        p, f = (await viewer.pictures(1))[0]
        if near(mean_rgb(f), rgb):
            return p, f
    raise AssertionError(f"{what}: {[round(x) for x in mean_rgb(f)]}, not {rgb}")


def is_colour(jpeg, rgb, what):
    got = mean_rgb(Decoder("jpeg")(jpeg)[0])
    assert near(got, rgb), f"{what}: {[round(x) for x in got]}, not {rgb}"


async def within(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, LIMIT)
    except asyncio.TimeoutError:
        raise AssertionError(f"not within {LIMIT} s: {what}") from None


class Publisher:
    """Sends 30 pictures a second until it is stopped."""

    def __init__(self, stream, codec="vp8", w=320, h=240, rgb=None, bitrate=800000, before=None):
        self.stream, self.codec, self.size, self.rgb = stream, codec, (w, h), rgb
        self.said, self.keys_wanted, self.captured, self.offset = [], 0, [], None
        self.bitrate, self.end, self.before = bitrate, None, before

    async def __aenter__(self):
        self.ws = await server.socket(f'/live/{self.stream["publish_key"]}/publish')
        first = json.loads(await within(self.ws.recv(), "ready"))
        assert first == {"type": "ready"}, first
        await self.ws.send(json.dumps({"type": "clock", "t": time.monotonic()}))
        self.task = asyncio.create_task(self.send())
        self.listener = asyncio.create_task(self.listen())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        self.listener.cancel()
        await self.ws.close()

    async def listen(self):
        try:
            async for message in self.ws:
                told = json.loads(message)
                self.said.append(told)
                if told["type"] == "clock":
                    self.offset = told["us"] - 1e6 * time.monotonic() # never in the future
                if told["type"] == "keyframe":
                    self.keys_wanted += 1
        finally:
            self.end = self.ws.close_code

    async def send(self):
        if self.before:
            await self.before(self.ws)
        encoder, last = None, None
        while self.offset is None:
            await asyncio.sleep(0.01)
        while True:
            now = time.monotonic()
            if last != (self.codec, self.size):
                last = self.codec, self.size
                encoder = Encoder(self.codec, *self.size, bitrate=self.bitrate)
            key = self.keys_wanted > 0
            self.keys_wanted = 0
            frame = picture(*self.size, encoder.n, self.rgb, full_range=self.codec == "jpeg")
            data, key = encoder(frame, key)
            captured = int(1e6 * now + self.offset)
            self.captured.append(captured)
            try:
                await self.ws.send(pack(self.codec, data, key, captured, 33333))
            except websockets.ConnectionClosed:
                return
            await asyncio.sleep(max(0, now + 1 / 30 - time.monotonic()))


class Viewer:
    def __init__(self, stream, query="", **more):
        self.path = f'/live/{stream["playback_id"]}/view{query}'
        self.more, self.formats, self.decoders = more, [], {}

    async def __aenter__(self):
        self.ws = await server.socket(self.path, **self.more)
        return self

    async def __aexit__(self, *_):
        await self.ws.close()

    async def packet(self, codec=None):
        """The next packet (of this codec); formats are noted on the way."""
        while True:
            message = await within(self.ws.recv(), f"a packet at {self.path}")
            if isinstance(message, str):
                told = json.loads(message)
                if told["type"] == "format":
                    self.formats.append(told)
                continue
            p = Packet(message)
            if codec in (None, p.codec):
                return p

    async def pictures(self, count):
        """So many decoded pictures, each with its packet."""
        out = []
        while len(out) < count:
            p = await self.packet()
            if p.codec == "opus":
                continue
            if p.codec not in self.decoders:
                assert p.key, f"the first {p.codec} packet is no key frame"
                self.decoders[p.codec] = Decoder(p.codec)
            out += [(p, f) for f in self.decoders[p.codec](p.data)]
        return out


async def refused(path, status, *words):
    try:
        async with server.socket(path):
            raise AssertionError(f"{path} was taken")
    except websockets.InvalidStatus as e:
        got, body = e.response.status_code, e.response.body.decode()
    assert got == status and all(w in body for w in words), f"{path}: {got} {body}, not {status} with {words}"


async def ends(path, code, *messages):
    """A publisher that sends these messages is closed with this code."""
    async with server.socket(path) as ws:
        await within(ws.recv(), "ready")
        try:
            for m in messages:
                await ws.send(m)
            while True:
                await within(ws.recv(), f"the end of {path}")
        except websockets.ConnectionClosed as e:
            assert e.rcvd and e.rcvd.code == code, f"closed with {e.rcvd}, not {code}"


# ---- the tests ---------------------------------------------------------------------------------------------------

async def there_and_back(stream):
    """Each codec in and each codec out: first the format, then a key frame; colours and times are kept."""
    for codec, rgb in (("vp8", RED), ("h264", BLUE), ("jpeg", BROWN)):
        async with Publisher(stream, codec, rgb=rgb) as pub:
            for out in ("vp8", "h264", "jpeg"):
                async with Viewer(stream, f"?codec={out}") as v:
                    await shows(v, rgb, f"{codec} to {out}")
                    for _ in range(60): # the clocks of two publishers may differ a little at first
                        seen = await v.pictures(3)
                        if seen[-1][0].captured_us in pub.captured:
                            break
                    assert seen[-1][0].captured_us in pub.captured, "the capture time is not kept"
                    told = v.formats[0]
                    assert (told["codec"], told["w"], told["h"]) == (out, 320, 240), told
                    assert out == "jpeg" or told["colorSpace"]["matrix"] == "smpte170m", told
                    times = [p.captured_us for p, _ in seen]
                    assert times == sorted(set(times)), f"times of {out}: {times}"
    print("there and back")


async def negotiation(stream):
    async with Publisher(stream, rgb=RED):
        async with Viewer(stream) as v: # vp8 is the default
            assert (await v.pictures(1))[0][0].codec == "vp8"
        async with Viewer(stream, "?codec=av1,%20h264,vp8") as v:
            assert (await v.pictures(1))[0][0].codec == "h264"
        async with Viewer(stream, "?of=source&codec=jpeg") as v:
            await shows(v, RED, "source")
        async with Viewer(stream) as v:
            await v.pictures(5)
            await v.ws.send('{"type": "keyframe"}')
            assert await within(key_within(v, 60), "a key frame"), "no key frame on demand"
            await v.ws.send(json.dumps({"type": "clock", "t": 7}))
            await v.ws.send('{"type": "dance"}')
            told = []
            while len(told) < 2:
                message = await within(v.ws.recv(), "answers")
                if isinstance(message, str):
                    told.append(json.loads(message))
            assert told[0]["type"] == "clock" and told[0]["t"] == 7 and told[0]["us"] > 0, told
            assert told[1]["type"] == "error" and "keyframe" in told[1]["error"], told
            await v.ws.send(b"binary")
            try:
                await within(v.pictures(1000), "the end")
            except websockets.ConnectionClosed as e:
                assert e.rcvd.code == 1003, e
    view, key = f'/live/{stream["playback_id"]}/view', f'/live/{stream["publish_key"]}/publish'
    await refused(view + "?codec=av1", 400, "codec", "av1")
    await refused(view + "?codec=opus", 400, "codec")
    await refused(view + "?audio=mp3", 400, "audio", "mp3")
    await refused(view + "?of=nothing", 400, "of", "nothing")
    await refused(view.replace(stream["playback_id"], stream["publish_key"]), 404)
    await refused(key.replace(stream["publish_key"], stream["playback_id"]), 404)
    await refused("/live/nobody/publish", 404)
    status, _, body = server.ask("GET", view)
    assert status == 426, f"{status} {body}"
    print("negotiation")


async def key_within(v, count):
    for _ in range(count):
        if (await v.packet()).key:
            return True
    return False


async def changes(stream):
    """The publisher changes its size and codec; the viewer is told and sees it."""
    async with Publisher(stream, "vp8", rgb=RED) as pub, Viewer(stream) as v:
        await v.pictures(3)
        for codec, size, rgb in (("vp8", (160, 120), BLUE), ("h264", (400, 300), RED), ("jpeg", (322, 240), BROWN)):
            pub.codec, pub.size, pub.rgb = codec, size, rgb
            for _ in range(200):
                _, f = (await v.pictures(1))[0]
                if (f.width, f.height) == size:
                    break
            assert (f.width, f.height) == size, f"still {f.width} x {f.height}, not {size}"
            assert (v.formats[-1]["w"], v.formats[-1]["h"]) == size, v.formats
            await shows(v, rgb, f"after the change to {codec}")
    print("changes")


async def colours_said(stream):
    """A publisher says that its VP8 has the full range."""
    async def say(ws):
        await ws.send('{"type": "format", "colorSpace": {"matrix": "smpte170m", "fullRange": true}}')
    async with Publisher(stream, "vp8", before=say) as pub, Viewer(stream, "?codec=jpeg") as v:
        pub.rgb = (255, 255, 255)  # 235 in the limited range that picture() makes
        await shows(v, (235, 235, 235), "full range")
    print("colours that are said")


async def stills(stream):
    async with Publisher(stream, "vp8", rgb=BLUE), Viewer(stream) as v:
        await shows(v, BLUE, "before stills")
        path = f'/live/{stream["playback_id"]}'
        for query in ("", "?of=source", "?of=result"):
            status, headers, body = await asyncio.to_thread(server.ask, "GET", f"{path}/frame.jpg{query}")
            assert status == 200 and headers["Content-Type"] == "image/jpeg", (status, headers, body[:200])
            is_colour(body, BLUE, f"frame.jpg{query}")
        assert (await asyncio.to_thread(server.ask, "GET", f"{path}/frame.jpg?of=x"))[0] == 400
        parts = await asyncio.to_thread(mjpeg, f"{path}/mjpeg", 10)
        is_colour(parts[-1], BLUE, "mjpeg")
    fresh = server.stream()
    for query in ("", "?of=source"):
        status, _, body = await asyncio.to_thread(server.ask, "GET", f'/live/{fresh["playback_id"]}/frame.jpg{query}')
        assert status == 404 and b"no picture yet" in body, (status, body)
    assert server.ask("GET", "/live/nobody/frame.jpg")[0] == 404
    assert server.ask("GET", "/live/nobody/mjpeg")[0] == 404
    server.json("DELETE", f'/api/v1/streams/{fresh["id"]}')
    print("stills")


def mjpeg(path, count):
    """The first parts of a multipart answer."""
    with socket.create_connection((server.at.hostname, server.at.port), LIMIT) as s:
        s.sendall(f"GET {path} HTTP/1.0\r\nHost: {server.at.netloc}\r\n\r\n".encode())
        f = s.makefile("rb")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = f.readline()
            assert line, head
            head += line
        assert b" 200 " in head and b"multipart/x-mixed-replace; boundary=frame" in head, head
        assert f.readline() == b"--frame\r\n"
        parts = []
        while len(parts) < count:
            length = 0
            for line in iter(f.readline, b"\r\n"):
                assert line, "the pictures ended"
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            parts.append(f.read(length))
            assert parts[-1].startswith(b"\xff\xd8") and parts[-1].endswith(b"\xff\xd9"), "not a JPEG"
            assert f.read(2) == b"\r\n" and f.readline() == b"--frame\r\n"
        return parts


async def sound(stream):
    packets = opus_packets(3)
    async def play(pub):
        started = time.monotonic()
        for n, data in enumerate(packets):
            await asyncio.sleep(max(0, started + n / 50 - time.monotonic()))
            captured = 0 if pub.offset is None else int(1e6 * time.monotonic() + pub.offset)
            await pub.ws.send(pack("opus", data, True, captured, 20000))
    async with Publisher(stream) as pub, Viewer(stream, "?audio=opus") as v:
        playing = asyncio.create_task(play(pub))
        loud = 0
        decoder = Decoder("opus")
        for _ in range(40):
            p = await v.packet("opus")
            for frame in decoder(p.data):
                loud = max(loud, max(memoryview(bytes(frame.planes[0])[:1920]).cast("f" if "flt" in frame.format.name
                                                                                   else "h")))
        playing.cancel()
        assert loud > (0.1 if loud <= 1.5 else 3000), f"no sound: {loud}"
        await v.packet("vp8")
    print("sound")


async def nonsense(stream):
    """Headers that make no sense end the publisher; broken pictures do not."""
    path = f'/live/{stream["publish_key"]}/publish'
    await ends(path, 1003, b"short")
    await ends(path, 1003, pack(9, b"x" * 100))
    await ends(path, 1003, pack(0, b"x" * 100))
    await ends(path, 1003, pack("vp8", b""))
    await ends(path, 1009, b"\1" * (17 << 20))
    rand = random.Random(3)
    for codec in ("vp8", "h264", "jpeg"):
        async with server.socket(path) as ws:
            await within(ws.recv(), "ready")
            encoder = Encoder(codec, 160, 120)
            # no key frame yet: one is asked for
            encoder(picture(160, 120, 0))
            if codec != "jpeg":
                await ws.send(pack(codec, *encoder(picture(160, 120, 1))))
                assert json.loads(await within(ws.recv(), "keyframe"))["type"] == "keyframe"
            for n in range(150):
                data, key = encoder(picture(160, 120, n), n % 10 == 0)
                b = bytearray(data)
                for _ in range(rand.randrange(1, 6)):
                    b[rand.randrange(len(b))] = rand.randrange(256)
                b = b if n % 3 else b[:rand.randrange(1, len(b))]
                await ws.send(pack(codec, bytes(b), key or n % 4 == 0, rand.choice((0, -1, 1, 2**62, n))))
                if n % 10 == 0:
                    await ws.send(rand.choice(("", "{", "[]", '{"type": 7}', '{"type": "format", "colorSpace": 3}',
                                               '{"type": "clock"}', '{"type": "keyframe"}')))
                await asyncio.sleep(0.005)
    async with Publisher(stream, rgb=RED), Viewer(stream) as v:
        _, f = await shows(v, RED, "after nonsense", 300)
        assert (f.width, f.height) == (320, 240), (f.width, f.height)
    print("nonsense")


async def replaced(stream):
    async with Publisher(stream, rgb=RED) as first, Viewer(stream) as v:
        await v.pictures(5)
        async with Publisher(stream, rgb=BLUE) as second:
            await within(first.listener, "the first publisher's end")
            assert {"type": "replaced"} in first.said and first.end == 1000, (first.said, first.end)
            await shows(v, BLUE, "the second publisher") # the viewer goes on
            assert second.end is None
    print("replaced")


async def slow_viewer(stream):
    """Who does not read costs the others nothing, and comes back with a key frame that is new."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect((server.at.hostname, server.at.port))
    async with Publisher(stream, "jpeg", 640, 480) as pub, Viewer(stream, "?codec=jpeg") as fast, \
            Viewer(stream, "?codec=jpeg", sock=s, max_queue=1) as slow:
        await fast.pictures(5)
        times, until = [], time.monotonic() + 6
        while time.monotonic() < until:
            await fast.packet()
            times.append(time.monotonic())
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert len(times) > 20 and max(gaps) < 2, f"the fast viewer: {len(times)} packets, {max(gaps):.2f} s apart"
        old, count = 0, 0
        while True: # what had been sent before, then pictures of now
            p = await slow.packet()
            age = 1e6 * time.monotonic() + pub.offset - p.captured_us
            count += 1
            if age < 500000:
                break
            old += len(p.data)
        assert count > 1, "the slow viewer was not slow"
        assert old < 2 << 20, f"{old} bytes waited for the slow viewer"
        _, f = (await slow.pictures(2))[-1]
        assert (f.width, f.height) == (640, 480)
    print(f"slow viewer: {count} packets, {old >> 10} KiB were old")


async def end_of_stream():
    stream = server.stream()
    async with Publisher(stream, rgb=RED) as pub, Viewer(stream) as v, Viewer(stream, "?codec=jpeg&audio=opus") as w:
        await v.pictures(2)
        await w.pictures(2)
        watching = asyncio.create_task(asyncio.to_thread(mjpeg_to_end, f'/live/{stream["playback_id"]}/mjpeg'))
        await v.pictures(20)
        await asyncio.to_thread(server.json, "DELETE", f'/api/v1/streams/{stream["id"]}')
        for viewer in (v, w):
            try:
                await within(viewer.pictures(10000), "the end of the stream")
            except websockets.ConnectionClosed as e:
                assert e.rcvd and e.rcvd.code == 1000 and "ended" in e.rcvd.reason, e
        await within(pub.listener, "the publisher's end")
        await within(watching, "the end of the MJPEG")
    await refused(f'/live/{stream["playback_id"]}/view', 404)
    print("end of the stream")


def mjpeg_to_end(path):
    try:
        mjpeg(path, 10000)
    except AssertionError as e:
        assert "ended" in str(e) or "not a JPEG" in str(e) or not str(e), e
        return
    raise AssertionError("the pictures did not end")


async def main():
    stream = server.stream([{"plugin": "passthrough"}])
    for test in (there_and_back, negotiation, changes, colours_said, stills, sound, nonsense, replaced, slow_viewer):
        await test(stream)
    await end_of_stream()
    server.json("DELETE", f'/api/v1/streams/{stream["id"]}')


asyncio.run(main())
