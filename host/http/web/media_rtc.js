// media_rtc.js - pictures by WebRTC: WHIP to publish, WHEP to watch; comes back by itself.
import {url, seg} from "./api.js";

export const can = () => "RTCPeerConnection" in window;

const gathered = (pc) => new Promise((done) => {
	const check = () => pc.iceGatheringState === "complete" && done();
	pc.addEventListener("icegatheringstatechange", check);
	check();
	setTimeout(done, 1500); // what there is by then is what there is
});

// calls: {track(stream)} for a viewer, {failed(text)} after the first try that never connected,
// {taken()}: does another send to the stream? Then a publisher does not come back, but {replaced()}.
class Session {
	#tries = 0;
	#closed = false;
	#timer = 0;
	#place = null;

	constructor(path, prepare, calls) {
		Object.assign(this, {path, prepare, calls, pc: null, worked: false});
		addEventListener("pagehide", () => this.close()); // else the server waits for it for a while
		this.#open();
	}

	close() {
		this.#closed = true;
		this.#drop();
	}

	#drop() {
		clearTimeout(this.#timer);
		this.pc?.close();
		this.pc = null;
		if (this.#place)
			fetch(this.#place, {method: "DELETE", keepalive: true}).catch(() => {});
		this.#place = null;
	}

	async #open() {
		const pc = this.pc = new RTCPeerConnection();
		this.prepare(pc);
		pc.onconnectionstatechange = () => {
			if (pc.connectionState === "connected") {
				this.worked = true;
				this.#tries = 0;
				clearTimeout(this.#timer);
			} else if (["failed", "closed", "disconnected"].includes(pc.connectionState))
				this.#again(pc, "The connection was lost.");
		};
		this.#timer = setTimeout(() => this.#again(pc, "No way was found to the server."), 10000);
		try {
			await pc.setLocalDescription(await pc.createOffer());
			await gathered(pc);
			const answer = await fetch(url(this.path), {method: "POST", headers: {"Content-Type": "application/sdp"}, body: pc.localDescription.sdp});
			const text = await answer.text();
			if (pc !== this.pc)
				return;
			if (!answer.ok) {
				this.#again(pc, text.startsWith("{") ? JSON.parse(text).error : `The server answered ${answer.status}.`);
				return;
			}
			this.#place = new URL(answer.headers.get("Location"), url(this.path)).href;
			await pc.setRemoteDescription({type: "answer", sdp: text});
		} catch (e) {
			this.#again(pc, e.message);
		}
	}

	#again(pc, why) {
		if (this.#closed || pc !== this.pc)
			return;
		this.#drop();
		if (!this.worked && this.#tries >= 1)
			this.calls.failed(why);
		this.#timer = setTimeout(() => {
			if (this.calls.taken?.())
				this.close(), this.calls.replaced();
			else if (!this.#closed)
				this.#open();
		}, Math.min(4000, 500 * 2 ** this.#tries++));
	}
}

export class RtcPublisher {
	constructor(key, media, {bitrate = 0} = {}, calls) {
		this.session = new Session(`live/${seg(key)}/whip`, (pc) => {
			for (const track of media.getTracks()) {
				if (track.kind === "video")
					track.contentHint = "motion";
				pc.addTransceiver(track, {direction: "sendonly", streams: [media], sendEncodings: bitrate ? [{maxBitrate: bitrate}] : []});
			}
		}, calls);
	}

	close() {
		this.session.close();
	}
}

export class RtcViewer {
	#before = {spent: 0, count: 0}; // what delay() saw last

	constructor(playback, calls) {
		this.session = new Session(`live/${seg(playback)}/whep`, (pc) => {
			for (const kind of ["video", "audio"])
				pc.addTransceiver(kind, {direction: "recvonly"});
			pc.ontrack = (e) => {
				e.receiver.jitterBufferTarget = 0;
				if (e.track.kind === "video")
					calls.track(e.streams[0] ?? new MediaStream([e.track]));
			};
		}, calls);
	}

	// Milliseconds that the way and the browser add to the age that the server tells.
	async delay() {
		let trip = 0, buffer = 0;
		const {spent, count} = this.#before;
		for (const s of (await this.session.pc?.getStats())?.values() ?? []) {
			if (s.type === "candidate-pair" && s.nominated)
				trip = (s.currentRoundTripTime ?? 0) * 500;
			if (s.type === "inbound-rtp" && s.kind === "video" && s.jitterBufferEmittedCount > count) {
				this.#before = {spent: s.jitterBufferDelay + s.totalDecodeTime, count: s.jitterBufferEmittedCount};
				buffer = (this.#before.spent - spent) / (this.#before.count - count) * 1000;
			}
		}
		return trip + buffer;
	}

	close() {
		this.session.close();
	}
}
