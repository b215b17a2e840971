// source.js - where the picture comes from: camera, screen or file of this browser, or the server.
import {h, icon, tool, kept, toast} from "./dom.js";
import {call} from "./api.js";
import {Publisher, canPublish} from "./media_ws.js";
import {RtcPublisher, can as canRtc} from "./media_rtc.js";
import {assetPicker} from "./controls/asset.js";
import {select} from "./controls/simple.js";
import {Mask} from "./mask.js";

export const KINDS = {
	camera: {label: "Camera", icon: "camera"},
	screen: {label: "Screen", icon: "screen"},
	file: {label: "File", icon: "file"},
	url: {label: "Server", icon: "link"},
	none: {label: "None", icon: "none"},
};
const SIZES = {"360p": [640, 360], "480p": [854, 480], "720p": [1280, 720], "1080p": [1920, 1080]};

export class Source {
	kind = "none";
	media = null;
	publisher = null;
	app;
	#undo = []; // what ends the media there is
	#fileUrl = null;

	constructor(app, root) {
		this.app = app;
		this.preview = h("video", {muted: true, autoplay: true, playsInline: true, label: "What is sent"});
		this.about = h("p.about", {role: "status"});
		this.stopButton = tool("close", "Stop sending", () => this.stop());
		this.box = h("div.preview", {hidden: true}, this.preview, this.stopButton);
		this.error = h("p.error", {role: "alert", hidden: true});
		this.buttons = Object.fromEntries(Object.entries(KINDS).map(([kind, k]) => [kind, h("button", {
			"aria-pressed": "false", onclick: () => this.pick(kind),
		}, icon(k.icon), h("span", k.label))]));
		this.options = h("div.options");
		this.fit = select({enum: ["crop", "pad", "stretch"]}, {label: "Fit", set: (fit) => this.#patch({fit})});
		this.fit.element.title = "How a picture of another shape than the plugins want is made to fit";
		root.append(h("h2", "Source"), h("div.kinds", {role: "group", label: "Source"}, Object.values(this.buttons)),
			this.box, this.options, h("div.fit", this.fit.element), this.error, this.about);
		this.mask = new Mask(app, root);
		this.#mark();
		navigator.mediaDevices?.addEventListener?.("devicechange", () => this.kind === "camera" && this.#cameraOptions());
	}

	// After a reload: go on with the camera where that needs no question.
	async resume() {
		if (kept.get("source") !== "camera")
			return;
		try {
			const state = await navigator.permissions.query({name: "camera"});
			if (state.state === "granted")
				await this.pick("camera");
		} catch { /* a browser that does not tell: it is a click away */ }
	}

	async pick(kind) {
		this.#fail("");
		if (kind === "url" || kind === "none") {
			this.#choose(kind);
			this.#endMedia();
			kept.set("source", kind);
			if (kind === "none")
				await this.#patch({source: null});
			return;
		}
		try {
			const media = await this["_" + kind]();
			if (!media)
				return;
			this.#choose(kind);
			kept.set("source", kind);
			this.#take(media);
		} catch (e) {
			this.#fail(kind === "camera" && !navigator.mediaDevices
				? "Browsers give the camera to https:// and localhost alone. Start the server with --tls self, or come through an SSH tunnel."
				: ({NotAllowedError: `The ${kind} was not allowed.`, NotFoundError: "There is no camera.",
					NotReadableError: "The camera is in use by another program."}[e.name] ?? e.message));
		}
	}

	stop() {
		this.release();
		kept.set("source", "none");
	}

	// Let go of what this page sends; a page that comes back may take it up again.
	release() {
		this.#endMedia();
		this.#choose("none");
	}

	// The server's word on what it takes pictures from.
	state(stream) {
		const s = stream.source;
		this.fit.show(stream.fit);
		this.mask.state(stream);
		this.about.textContent = this.media ? "" : s ? [s.about, s.state, s.reason].filter(Boolean).join(" · ") : "Nothing is sent.";
		const fromServer = s && !["whip", "websocket"].includes(s.kind);
		if (fromServer && this.media)
			this.#endMedia();
		if (fromServer && this.kind !== "url")
			this.#choose("url");
	}

	// Send what is captured by the transport that is set now.
	republish() {
		if (this.media)
			this.#publish();
	}

	#choose(kind) {
		this.kind = kind;
		this.#mark();
		this.options.replaceChildren();
		if (kind === "camera")
			this.#cameraOptions();
		else if (kind === "file")
			this.options.append(h("button", {onclick: () => this.pick("file")}, icon("file"), "Another file"));
		else if (kind === "url")
			this.#urlOptions();
	}

	#mark() {
		for (const [kind, b] of Object.entries(this.buttons))
			b.setAttribute("aria-pressed", String(kind === this.kind));
	}

	#fail(text) {
		this.error.textContent = text;
		this.error.hidden = !text;
	}

	#take(media) {
		this.#endMedia();
		this.media = media;
		const track = media.getVideoTracks()[0];
		track.addEventListener("ended", () => this.media === media && this.stop());
		this.preview.srcObject = media;
		this.preview.play().catch(() => {});
		this.box.hidden = false;
		this.#publish();
	}

	#endMedia() {
		this.publisher?.close();
		this.publisher = null;
		const undo = this.#undo;
		if (this.media) {
			this.media.getTracks().forEach((t) => t.stop());
			undo.splice(0).forEach((fn) => fn());
		}
		this.media = null;
		this.preview.srcObject = null;
		this.box.hidden = true;
	}

	#publish() {
		this.publisher?.close();
		this.publisher = null;
		const key = this.app.control?.stream?.publish_key;
		if (!key) {
			this.#fail("You may watch this stream, but not send to it.");
			return;
		}
		const {transport, codec, bitrate} = this.app.settings;
		const calls = {
			failed: (why) => this.#fail(why),
			replaced: () => {
				const media = this.media;
				this.stop();
				media && toast("Another sender has taken this stream.", {ms: 0, action: {label: "Take it back", onpick: () => this.pick("camera")}});
			},
			taken: () => Boolean(this.app.control?.stream?.source),
		};
		const rtc = transport === "webrtc" || (transport === "auto" && !canPublish());
		if (rtc && canRtc())
			this.publisher = new RtcPublisher(key, this.media, {bitrate}, calls);
		else if (canPublish())
			this.publisher = new Publisher(key, this.media, this.app.control.clock, {codec, bitrate}, calls);
		else
			this.#fail("This browser can send pictures in no way that is known here.");
	}

	// ---- the media ------------------------------------------------------------------------------

	async _camera() {
		const [width, height] = SIZES[this.app.settings.size];
		const id = kept.get("camera");
		const video = {width: {ideal: width}, height: {ideal: height}, frameRate: {ideal: 30}, ...(id ? {deviceId: {ideal: id}} : {})};
		return navigator.mediaDevices.getUserMedia({video});
	}

	async _screen() {
		const [width, height] = SIZES[this.app.settings.size];
		return navigator.mediaDevices.getDisplayMedia({video: {width: {max: width}, height: {max: height}, frameRate: {ideal: 30}}});
	}

	async _file() {
		const file = await new Promise((done) => {
			const input = h("input", {type: "file", accept: "video/*,image/*", onchange: () => done(input.files[0]), oncancel: () => done(null)});
			input.click();
		});
		return file && this.mediaOf(file);
	}

	async mediaOf(file) {
		const address = URL.createObjectURL(file);
		const picture = file.type.startsWith("image/");
		const element = picture ? new Image() : Object.assign(document.createElement("video"), {muted: true, loop: true, playsInline: true});
		element.src = address;
		await (picture ? element.decode() : element.play()).catch(() => {
			URL.revokeObjectURL(address);
			throw new Error(`This browser cannot show ${file.name}.`);
		});
		const undo = () => { picture || element.pause(); URL.revokeObjectURL(address); };
		const media = !picture && element.captureStream ? element.captureStream() : this.#drawn(element);
		setTimeout(() => this.#undo.push(undo)); // once the media before this one has ended
		return media;
	}

	// A stream of what a canvas shows: pictures, and videos where the browser cannot capture them.
	#drawn(element) {
		const w = element.naturalWidth ?? element.videoWidth, hh = element.naturalHeight ?? element.videoHeight;
		const scale = Math.min(1, 1280 / Math.max(w, hh));
		const canvas = h("canvas", {width: w * scale & ~1, height: hh * scale & ~1});
		const context = canvas.getContext("2d", {alpha: false});
		const draw = () => context.drawImage(element, 0, 0, canvas.width, canvas.height);
		draw();
		const timer = setInterval(draw, 33);
		setTimeout(() => this.#undo.push(() => clearInterval(timer)));
		return canvas.captureStream(30);
	}

	// ---- the options ----------------------------------------------------------------------------

	async #cameraOptions() {
		const all = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput");
		const now = this.media?.getVideoTracks()[0]?.getSettings().deviceId;
		const device = h("select", {label: "Camera", onchange: () => { kept.set("camera", device.value); this.pick("camera"); }},
			all.map((d, i) => h("option", {value: d.deviceId, selected: d.deviceId === now}, d.label || `Camera ${i + 1}`)));
		const size = h("select", {label: "Size", onchange: () => { this.app.setSetting("size", size.value); this.pick("camera"); }},
			Object.keys(SIZES).map((s) => h("option", {selected: s === this.app.settings.size}, s)));
		if (this.kind === "camera")
			this.options.replaceChildren(device, size);
	}

	#urlOptions() {
		const field = h("input", {type: "text", id: "source-url", placeholder: "rtsp://… https://… /dev/video0",
			value: kept.get("url", "")});
		const go = () => {
			kept.set("url", field.value.trim());
			this.#patch({source: {url: field.value.trim()}});
		};
		field.addEventListener("keydown", (e) => e.key === "Enter" && go());
		this.options.append(h("label", {htmlFor: "source-url"}, "Opened by the server: an address, a file or a device there"),
			h("div.line", field, assetPicker("video", (path) => { field.value = path; go(); }), h("button.primary", {onclick: go}, "Open")));
	}

	// What the server is to do otherwise; what it refuses shows as it was.
	async #patch(change) {
		this.#fail("");
		try {
			await call("PATCH", this.app.control.path, {json: change});
		} catch (e) {
			this.#fail(e.message);
			this.fit.show(this.app.control.stream.fit);
		}
	}
}
