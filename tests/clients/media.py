"""media.py - what the clients of the media sockets share: packets as host/http/README.md has them, and pictures and
sound coded by FFmpeg (PyAV), which is not what the server codes with."""
import fractions
import http.client
import json
import struct
import urllib.parse

import av
import websockets

CODECS = {"vp8": 1, "h264": 2, "jpeg": 3, "opus": 4}
NAMES = {number: name for name, number in CODECS.items()}
ENCODERS = {
    "vp8": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}),
    "h264": ("libx264", "yuv420p", {"profile": "baseline", "tune": "zerolatency", "preset": "ultrafast",
                                    "x264-params": "repeat-headers=1:annexb=1:scenecut=0"}),
    "jpeg": ("mjpeg", "yuvj420p", {"qscale": "3"}),
}


def pack(codec, data, key=True, captured_us=0, duration_us=0):
    return struct.pack("<BBBBIq", CODECS.get(codec, codec), 1 if key else 0, 0, 0, duration_us, captured_us) + data


class Packet:
    def __init__(self, message):
        number, flags, _, _, self.duration_us, self.captured_us = struct.unpack_from("<BBBBIq", message)
        self.codec, self.key, self.data = NAMES[number], bool(flags & 1), message[16:]


def picture(w, h, n, rgb=None, full_range=False):
    """A yuv420p frame: a plain colour in BT.601, or a pattern that moves with n."""
    frame = av.VideoFrame(w, h, "yuvj420p" if full_range else "yuv420p")
    if rgb:
        r, g, b = rgb
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        values = [luma, 128 + (b - luma) / 1.772, 128 + (r - luma) / 1.402]
        if not full_range:
            values = [16 + values[0] * 219 / 255] + [128 + (v - 128) * 224 / 255 for v in values[1:]]
        for plane, value in zip(frame.planes, values):
            plane.update(bytes([min(255, max(0, round(value)))]) * plane.buffer_size)
        return frame
    ramp = bytes(16 + abs((4 * x) % 400 - 200) for x in range(2 * w + 512))
    for i, plane in enumerate(frame.planes):
        rows = []
        for y in range(plane.height):
            at = (y + 3 * n) % 256 if i == 0 else (2 * y + n) % 200
            row = ramp[at:at + plane.line_size]
            rows.append(row + bytes(plane.line_size - len(row)))
        plane.update(b"".join(rows) + bytes(plane.buffer_size - plane.line_size * plane.height))
    return frame


class Encoder:
    def __init__(self, codec, w, h, fps=30, bitrate=800000, gop=30):
        name, pixels, options = ENCODERS[codec]
        self.codec, self.n, self.fps = codec, 0, fps
        self.context = av.CodecContext.create(name, "w")
        c = self.context
        c.width, c.height, c.pix_fmt, c.time_base = w, h, pixels, fractions.Fraction(1, fps)
        c.framerate, c.bit_rate, c.gop_size, c.options, c.thread_count = fps, bitrate, gop, options, 1
        if codec == "jpeg":
            c.color_range = 2

    def __call__(self, frame, key=False):
        """One picture into (bytes, key)."""
        frame.pts, frame.time_base = self.n, fractions.Fraction(1, self.fps)
        frame.pict_type = 1 if key else 0
        self.n += 1
        packets = self.context.encode(frame)
        assert len(packets) == 1, f"{self.codec}: {len(packets)} packets of one picture"
        return bytes(packets[0]), packets[0].is_keyframe or self.codec == "jpeg"


class Decoder:
    def __init__(self, codec):
        self.context = av.CodecContext.create({"jpeg": "mjpeg"}.get(codec, codec), "r")

    def __call__(self, data):
        """The pictures of one packet."""
        return self.context.decode(av.Packet(data))


def mean_rgb(frame):
    """Of a picture of one colour: its middle, as BT.601, in the range that its format has."""
    y, u, v = (bytes(p)[p.height // 2 * p.line_size + p.width // 2] for p in frame.planes)
    if frame.format.name.startswith("yuvj"):
        y, u, v = y, u - 128, v - 128
    else:
        y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    return [min(255, max(0, c)) for c in (y + 1.402 * v, y - 0.344 * u - 0.714 * v, y + 1.772 * u)]


def opus_packets(seconds):
    """20 ms each, of a tone."""
    c = av.CodecContext.create("libopus", "w")
    c.sample_rate, c.layout, c.format, c.bit_rate = 48000, "stereo", "s16", 96000
    out = []
    for n in range(int(seconds * 50)):
        frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
        frame.sample_rate, frame.pts = 48000, 960 * n
        frame.planes[0].update(b"".join(struct.pack("<hh", s, s) for s in
                                        ((i * 440 % 48000) // 4 - 6000 for i in range(960 * n, 960 * n + 960))))
        out += [bytes(p) for p in c.encode(frame)]
    return out


class Server:
    def __init__(self, url):
        self.url = url
        self.at = urllib.parse.urlsplit(url)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body)."""
        c = http.client.HTTPConnection(self.at.hostname, self.at.port, timeout=30)
        data = None if body is None else json.dumps(body)
        c.request(method, path, data, {**({"Content-Type": "application/json"} if data else {}), **(headers or {})})
        answer = c.getresponse()
        result = answer.status, dict(answer.getheaders()), answer.read()
        c.close()
        return result

    def json(self, method, path, body=None):
        status, _, answer = self.ask(method, path, body)
        assert status in (200, 201), f"{method} {path}: {status} {answer[:500]}"
        return json.loads(answer)

    def stream(self, chain=()):
        return self.json("POST", "/api/v1/streams", {"chain": list(chain)})

    def socket(self, path, **more):
        options = {"max_size": None, "max_queue": 64, "open_timeout": 30, "compression": None, **more}
        return websockets.connect(self.url.replace("http", "ws", 1) + path, **options)
