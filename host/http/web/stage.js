// stage.js - the picture: result, source beside it, A/B wipe, fullscreen, and what is said over it.
import {h, icon, kept} from "./dom.js";
import {openUrl, seg} from "./api.js";
import {Viewer, canView} from "./media_ws.js";
import {RtcViewer, can as canRtc} from "./media_rtc.js";

export const VIEWS = {result: "Result", beside: "Side by side", wipe: "A/B wipe", source: "Source"};
const KEPT_FRAMES = 60; // of the source, so that a wipe shows the frame that the result was made of

// One picture: a canvas for frames, a <video> for WebRTC, an <img> for MJPEG.
class Pane {
	canvas = h("canvas", {width: 16, height: 9});
	video = h("video", {muted: true, autoplay: true, playsInline: true, hidden: true});
	img = h("img", {alt: "", hidden: true});
	frames = []; // {picture, time}, the oldest first
	drawn = 0;
	time = 0;
	onsize = null;
	#context = this.canvas.getContext("2d", {alpha: false, desynchronized: true});

	constructor(name) {
		this.element = h(`div.pane.${name}`, {"data-label": name === "source" ? "Source" : "Result"}, this.canvas, this.video, this.img);
		this.video.addEventListener("resize", () => this.onsize?.(this.video.videoWidth, this.video.videoHeight));
		this.img.addEventListener("load", () => this.onsize?.(this.img.naturalWidth, this.img.naturalHeight));
	}

	show(what) {
		for (const name of ["canvas", "video", "img"])
			this[name].hidden = name !== what;
	}

	put(picture, time, keep) {
		this.frames.push({picture, time});
		while (this.frames.length > keep)
			this.frames.shift().picture.close();
	}

	// Draw the newest frame that is not younger than `until`; returns its time, or 0 for none. Where so
	// many wait that the next would be lost, the oldest is near enough.
	draw(until = Infinity) {
		const at = this.frames.findLastIndex((f, i) => f.time <= until || (i === 0 && this.frames.length >= KEPT_FRAMES));
		if (at < 0)
			return 0;
		const {picture, time} = this.frames[at];
		const w = picture.displayWidth ?? picture.width, hh = picture.displayHeight ?? picture.height;
		if (this.canvas.width !== w || this.canvas.height !== hh) {
			Object.assign(this.canvas, {width: w, height: hh});
			this.onsize?.(w, hh);
		}
		this.#context.drawImage(picture, 0, 0, w, hh);
		this.frames.splice(0, at + 1).forEach((f) => f.picture.close());
		this.drawn++;
		return this.time = time;
	}

	clear() {
		this.time = 0;
		this.frames.splice(0).forEach((f) => f.picture.close());
		this.video.srcObject = null;
		this.img.removeAttribute("src");
	}
}

export class Stage extends EventTarget {
	view = kept.get("view", "result");
	frozen = false;
	black = false;
	ages = []; // {at, ms} of frames drawn lately
	app;
	#result = new Pane("result");
	#source = new Pane("source");
	#viewers = {result: null, source: null};
	#wipe = kept.get("wipe", 0.5);
	#jpegOnly = false; // WebRTC was tried, and failed

	constructor(app, root) {
		super();
		this.app = app;
		this.divider = h("div.divider", {role: "slider", tabIndex: 0, label: "Wipe between source and result"});
		this.box = h("div.box", this.#result.element, this.#source.element, this.divider);
		this.notice = h("p.notice", {role: "status"});
		this.bar = h("div.progress", {role: "progressbar", label: "Loading", hidden: true}, h("i"), h("span"));
		this.badge = h("span.badge", {hidden: true});
		this.empty = h("div.empty", {hidden: true});
		root.append(this.box, this.badge, this.notice, this.bar, this.empty);
		this.root = root;
		this.#result.onsize = (w, hh) => {
			this.box.style.setProperty("--ar", w / hh);
			this.dispatchEvent(new Event("first"));
		};
		root.addEventListener("dblclick", (e) => {
			if (!e.target.closest("button, .divider, .empty"))
				this.fullscreen();
		});
		this.#dragging();
		this.setView(this.view);
		this.setWipe(this.#wipe);
		this.setMirror(kept.get("mirror", false));
		const loop = () => { this.#draw(); requestAnimationFrame(loop); };
		requestAnimationFrame(loop);
	}

	// Is there a picture to look at?
	get shows() {
		return this.#result.time > 0 || this.#result.video.videoWidth > 0 || this.#result.img.naturalWidth > 0;
	}

	get frames() {
		return this.#result.drawn;
	}

	// Capture times of the pictures that are shown.
	get times() {
		return [this.#result.time, this.#source.time];
	}

	// What carries the picture: "websocket", "webrtc" or "mjpeg".
	get transport() {
		const asked = this.app.settings.transport;
		if (asked !== "auto" && !(asked === "websocket" && !canView()))
			return asked;
		if (canView())
			return "websocket";
		return canRtc() && !this.#jpegOnly ? "webrtc" : "mjpeg";
	}

	// Watch this stream (again, when the transport changed); null: nothing.
	watch(stream) {
		for (const which of ["result", "source"]) {
			this.#viewers[which]?.close();
			this.#viewers[which] = null;
		}
		this.#result.clear();
		this.#source.clear();
		this.ages = [];
		this.stream = stream;
		if (!stream?.playback_id)
			return;
		this.#open("result");
		this.#watchSource();
	}

	#open(which) {
		const pane = which === "result" ? this.#result : this.#source;
		const id = this.stream.playback_id;
		const way = which === "source" && this.transport === "webrtc" && canView() ? "websocket" : this.transport;
		if (way === "websocket") {
			pane.show("canvas");
			const calls = {
				frame: (picture, time) => pane.put(picture, time, which === "source" && this.view !== "source" ? KEPT_FRAMES : 1),
				failed: (why) => this.#failed(which, why),
			};
			this.#viewers[which] = new Viewer(id, {of: which, codecs: [...new Set([this.app.settings.viewCodec, "vp8", "h264", "jpeg"])]}, calls);
		} else if (way === "webrtc" && which === "result") {
			pane.show("video");
			this.#viewers[which] = new RtcViewer(id, {
				track: (media) => { pane.video.srcObject = media; this.#countVideo(pane.video); },
				failed: (why) => this.#failed(which, why),
			});
		} else if (way === "mjpeg") {
			pane.show("img");
			pane.img.src = openUrl(`live/${seg(id)}/mjpeg`, which === "source" ? {of: "source"} : {});
			this.#viewers[which] = {close: () => pane.img.removeAttribute("src")};
		}
	}

	#failed(which, why) {
		this.app.log({level: "warn", about: "page", text: `${which}: ${why}`});
		if (this.transport === "webrtc" && this.app.settings.transport === "auto") {
			this.#jpegOnly = true;
			this.watch(this.stream);
		} else if (which === "result")
			this.app.warn(`The picture does not arrive: ${why}`);
	}

	#countVideo(video) {
		const next = () => {
			this.#result.drawn++;
			if (video.srcObject)
				video.requestVideoFrameCallback?.(next);
		};
		video.requestVideoFrameCallback?.(next);
	}

	#watchSource() {
		const wanted = this.view !== "result" && this.stream?.playback_id;
		if (wanted && !this.#viewers.source)
			this.#open("source");
		else if (!wanted && this.#viewers.source) {
			this.#viewers.source.close();
			this.#viewers.source = null;
			this.#source.clear();
		}
	}

	#draw() {
		if (this.frozen)
			return;
		const before = this.#result.time, time = this.#result.draw();
		if (time && !before)
			this.dispatchEvent(new Event("first"));
		if (time) {
			const clock = this.app.control?.clock;
			if (clock?.known) {
				const at = performance.now();
				this.ages.push({at, ms: (clock.at(at) - time) / 1000});
				while (this.ages[0].at < at - 2000)
					this.ages.shift();
			}
		}
		if (this.#viewers.source)
			this.#source.draw(this.view === "source" ? Infinity : this.#result.time || Infinity);
	}

	// Age of what this page has shown in the last two seconds, ms; null when nothing came.
	async age() {
		if (this.transport === "webrtc" && this.#viewers.result?.delay && this.#result.video.videoWidth) {
			const server = this.app.control?.stream?.stats?.age_ms?.p50;
			return server === undefined ? null : server + await this.#viewers.result.delay();
		}
		const now = performance.now();
		const sorted = this.ages.filter((a) => a.at > now - 2000).map((a) => a.ms).sort((a, b) => a - b);
		return sorted.length ? sorted[sorted.length >> 1] : null;
	}

	setView(view) {
		this.view = view;
		kept.set("view", view);
		document.body.dataset.view = view;
		this.divider.hidden = view !== "wipe";
		this.#watchSource();
		this.dispatchEvent(new Event("view"));
	}

	nextView() {
		const all = Object.keys(VIEWS);
		this.setView(all[(all.indexOf(this.view) + 1) % all.length]);
	}

	setWipe(share) {
		this.#wipe = Math.max(0, Math.min(1, share));
		this.box.style.setProperty("--wipe", `${this.#wipe * 100}%`);
		this.divider.setAttribute("aria-valuenow", Math.round(this.#wipe * 100));
		kept.set("wipe", this.#wipe);
	}

	#dragging() {
		const move = (e) => {
			const r = this.box.getBoundingClientRect();
			this.setWipe((e.clientX - r.left) / r.width);
		};
		this.divider.addEventListener("pointerdown", (e) => {
			this.divider.setPointerCapture(e.pointerId);
			this.divider.onpointermove = move;
		});
		this.divider.addEventListener("pointerup", () => { this.divider.onpointermove = null; });
		this.divider.addEventListener("keydown", (e) => {
			const step = {ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1}[e.key];
			if (step) {
				e.preventDefault();
				this.setWipe(this.#wipe + step);
			}
		});
	}

	setMirror(on) {
		this.mirrored = on;
		kept.set("mirror", on);
		this.box.classList.toggle("mirror", on);
	}

	setFit(fit) {
		this.box.dataset.fit = fit;
	}

	fullscreen() {
		if (document.fullscreenElement)
			document.exitFullscreen();
		else
			this.root.requestFullscreen?.({navigationUI: "hide"}).catch(() => {});
	}

	freeze(on = !this.frozen) {
		this.frozen = on;
		const {video} = this.#result;
		on ? video.pause() : video.srcObject && video.play();
		this.#badge();
	}

	blackout(on = !this.black) {
		this.black = on;
		this.box.classList.toggle("black", on);
		this.#badge();
	}

	#badge() {
		this.badge.hidden = !(this.frozen || this.black);
		this.badge.textContent = this.black ? "Blackout · B" : "Frozen · Space";
	}

	say(text, kind = "warn") {
		this.notice.textContent = text;
		this.notice.dataset.kind = kind;
	}

	progress(done, phase) {
		this.bar.hidden = done === null;
		if (done === null)
			return;
		this.bar.firstChild.style.width = `${Math.round(done * 100)}%`;
		this.bar.lastChild.textContent = phase;
		this.bar.setAttribute("aria-valuenow", Math.round(done * 100));
		this.bar.setAttribute("aria-valuetext", phase);
	}

	// What a person sees before there is a picture: rows of {title, items: [{label, icon, note, onpick, disabled}]}.
	welcome(rows) {
		this.empty.hidden = !rows;
		this.empty.replaceChildren(...(rows ?? []).map((row) => h("div.choice", h("h2", row.title),
			h("div.cards", row.items.map((item) => h("button.card", {disabled: item.disabled, onclick: item.onpick},
				item.icon ? icon(item.icon) : null, h("b", item.label), item.note ? h("small", item.note) : null))))));
	}
}
