// media_ws.js - pictures over a WebSocket with WebCodecs, both ways: nothing queues, the newest wins.
import {socketUrl, seg} from "./api.js";
import {Lasting} from "./socket.js";
import {CODEC, pack, unpack, h264Name} from "./packet.js";

export const canPublish = () => "VideoEncoder" in window && "VideoFrame" in window;
export const canView = () => "VideoDecoder" in window;

// The frames of a track: where the browser gives them itself, else those that a <video> shows.
async function* framesOf(track, stopped) {
	if ("MediaStreamTrackProcessor" in window) {
		const reader = new MediaStreamTrackProcessor({track, maxBufferSize: 1}).readable.getReader();
		stopped.then(() => reader.cancel().catch(() => {}));
		for (;;) {
			const {value, done} = await reader.read();
			if (done)
				return;
			yield value;
		}
	}
	const video = document.createElement("video");
	Object.assign(video, {muted: true, playsInline: true, srcObject: new MediaStream([track])});
	await video.play();
	let over = false;
	stopped.then(() => { over = true; });
	while (!over) {
		await Promise.race([new Promise((done) => video.requestVideoFrameCallback(done)), stopped]);
		if (!over)
			yield new VideoFrame(video, {timestamp: performance.now() * 1000});
	}
	video.srcObject = null;
}

// Sends a MediaStream's picture. calls: {replaced(), failed(text)}.
export class Publisher {
	stats = {sent: 0, skipped: 0};
	#stop;
	#stopped = new Promise((done) => { this.#stop = done; });
	#encoder = null;
	#config = null;
	#wantKey = true;
	#colorSpace = null; // of what the encoder makes
	#ready = false;
	#closed = false;
	#least = []; // how late frames come after their time stamps, ms, lately

	constructor(key, media, clock, {fps = 30, codec = "vp8", bitrate = 0} = {}, calls) {
		Object.assign(this, {clock, fps, codec, bitrate, calls});
		this.socket = new Lasting(() => socketUrl(`live/${seg(key)}/publish`), {
			down: () => { this.#ready = false; },
			text: (m) => {
				if (m.type === "ready")
					this.#tell();
				if (m.type === "ready" || m.type === "keyframe")
					this.#ready = this.#wantKey = true;
				else if (m.type === "replaced")
					this.close(), calls.replaced();
			},
		});
		this.#run(media.getVideoTracks()[0]);
	}

	close() {
		this.#closed = true;
		this.#stop();
		this.socket.close();
		if (this.#encoder?.state !== "closed")
			this.#encoder?.close();
	}

	async #run(track) {
		try {
			for await (const frame of framesOf(track, this.#stopped)) {
				try {
					await this.#frame(frame);
				} finally {
					frame.close();
				}
			}
		} catch (e) {
			if (!this.#closed)
				this.calls.failed(e.message);
			this.close();
		}
	}

	// When it was captured, on the server's clock: its time stamp, put where the fastest frames of
	// late say that it belongs. That takes out how busy this page was when the frame came.
	#captured(frame) {
		const now = performance.now();
		const late = now - frame.timestamp / 1000;
		this.#least.push(late);
		if (this.#least.length > 90)
			this.#least.shift();
		return this.clock.known ? this.clock.at(now - Math.min(200, late - Math.min(...this.#least))) : 0;
	}

	async #frame(frame) {
		if (!this.#ready)
			return;
		await this.#configure(frame.displayWidth & ~1, frame.displayHeight & ~1);
		if (this.#closed)
			return;
		const encoder = this.#encoder;
		if (encoder.encodeQueueSize > 1 || this.socket.waiting > 300000) {
			this.stats.skipped++;
			return;
		}
		const stamped = new VideoFrame(frame, {timestamp: this.#captured(frame)});
		try {
			encoder.encode(stamped, {keyFrame: this.#wantKey});
			this.#wantKey = false;
		} finally {
			stamped.close();
		}
	}

	async #configure(width, height) {
		if (this.#config?.width === width && this.#config.height === height && this.#encoder.state === "configured")
			return;
		const config = {
			codec: this.codec === "h264" ? "avc1.42e028" : "vp8", width, height, framerate: this.fps,
			bitrate: this.bitrate || Math.max(600000, Math.round(width * height * this.fps * 0.14)),
			latencyMode: "realtime", ...(this.codec === "h264" ? {avc: {format: "annexb"}} : {}),
		};
		if (!(await VideoEncoder.isConfigSupported(config)).supported)
			throw new Error(`This browser cannot encode ${this.codec} at ${width} × ${height}.`);
		if (this.#encoder && this.#encoder.state !== "closed")
			this.#encoder.close();
		this.#encoder = new VideoEncoder({
			output: (chunk, about) => this.#chunk(chunk, about?.decoderConfig?.colorSpace),
			error: (e) => { this.close(); this.calls.failed(`The encoder gave up: ${e.message}`); },
		});
		this.#encoder.configure(config);
		this.#config = config;
		this.#wantKey = true;
	}

	// What an encoder makes of a canvas has other colours than what it makes of a camera, and VP8 does
	// not say which.
	#tell() {
		if (this.#colorSpace)
			this.socket.say({type: "format", colorSpace: this.#colorSpace});
	}

	#chunk(chunk, colorSpace) {
		if (colorSpace) {
			this.#colorSpace = colorSpace;
			this.#tell();
		}
		const bytes = pack(CODEC[this.codec], chunk.type === "key", chunk.duration ?? 0, chunk.timestamp, chunk.byteLength);
		chunk.copyTo(bytes.subarray(16));
		this.socket.send(bytes);
		this.stats.sent++;
	}
}

// Receives a stream's picture. calls: {frame(picture, timeUs)}, whose owner closes the picture (a
// VideoFrame or an ImageBitmap); {failed(text)}.
export class Viewer {
	#decoder = null;
	#codec = "";
	#colorSpace; // browsers take what is unmarked for BT.709; the server says what it is
	#needKey = true;
	#drawing = false;

	constructor(playback, {of, codecs}, calls) {
		this.calls = calls;
		this.socket = new Lasting(() => socketUrl(`live/${seg(playback)}/view`, {codec: codecs, ...(of === "source" ? {of} : {})}), {
			up: () => { this.#needKey = true; },
			text: (m) => {
				if (m.type === "format") {
					this.#colorSpace = m.colorSpace;
					this.#codec = ""; // configure anew
				} else if (m.type === "error") {
					calls.failed(m.error);
				}
			},
			binary: (data) => this.#packet(unpack(data)),
		});
	}

	close() {
		this.socket.close();
		if (this.#decoder && this.#decoder.state !== "closed")
			this.#decoder.close();
		this.#decoder = null;
	}

	#lost() {
		this.#needKey = true;
		this.socket.say({type: "keyframe"});
	}

	#packet(p) {
		if (p.codec === CODEC.jpeg) {
			this.#jpeg(p);
			return;
		}
		if (p.codec !== CODEC.vp8 && p.codec !== CODEC.h264)
			return;
		if (this.#needKey && !p.key)
			return;
		if (p.key && !this.#configure(p.codec === CODEC.vp8 ? "vp8" : h264Name(p.data)))
			return;
		if (this.#decoder.decodeQueueSize > 4 && !p.key) {
			this.#lost();
			return;
		}
		this.#needKey = false;
		this.#decoder.decode(new EncodedVideoChunk({type: p.key ? "key" : "delta", timestamp: p.time, duration: p.duration, data: p.data}));
	}

	#configure(codec) {
		if (!codec)
			return false;
		if (this.#decoder?.state === "configured" && this.#codec === codec)
			return true;
		if (this.#decoder && this.#decoder.state !== "closed")
			this.#decoder.close();
		const decoder = new VideoDecoder({
			output: (frame) => {
				if (decoder !== this.#decoder) {
					frame.close();
					return;
				}
				this.calls.frame(frame, frame.timestamp);
			},
			error: (e) => {
				if (decoder !== this.#decoder)
					return;
				if (e.name === "NotSupportedError")
					this.calls.failed(e.message);
				else
					this.#lost();
			},
		});
		decoder.configure({codec, optimizeForLatency: true, colorSpace: this.#colorSpace});
		this.#decoder = decoder;
		this.#codec = codec;
		return true;
	}

	async #jpeg(p) {
		if (this.#drawing)
			return;
		this.#drawing = true;
		try {
			const picture = await createImageBitmap(new Blob([p.data], {type: "image/jpeg"}));
			this.calls.frame(picture, p.time);
		} catch { /* half a picture: the next is whole */ } finally {
			this.#drawing = false;
		}
	}
}
