// outputs.js - where the picture goes besides this page: recordings, RTMP, HLS, SRT, v4l2, OBS.
import {h, icon, tool, toast, oops, bytes} from "./dom.js";
import {call, seg, listOf, openUrl, url} from "./api.js";

const KINDS = {
	rtmp: {label: "RTMP", hint: "rtmp://live.example.com/app/key"},
	hls: {label: "HLS", hint: ""},
	srt: {label: "SRT", hint: "srt://host:port"},
	v4l2: {label: "Virtual camera", hint: "/dev/video10"},
};

const clock = (s) => new Date(s * 1000).toISOString().slice(s < 3600 ? 14 : 11, 19);

export class Outputs {
	outputs = [];
	app;
	#started = 0; // of the recording, as this page saw it
	#recording = null;

	constructor(app, root) {
		this.app = app;
		this.list = h("ul.rows");
		this.recordings = h("ul.rows");
		this.links = h("div.links");
		this.error = h("p.error", {role: "alert", hidden: true});
		this.record = h("button.record-button", {onclick: () => this.toggleRecord()}, icon("record"), h("span", "Record"));
		const kind = h("select", {label: "Kind", onchange: () => {
			where.placeholder = KINDS[kind.value].hint;
			where.hidden = kind.value === "hls";
		}}, Object.entries(KINDS).map(([k, v]) => h("option", {value: k}, v.label)));
		const where = h("input", {type: "text", label: "Where to", placeholder: KINDS.rtmp.hint});
		const form = h("form.line", {onsubmit: (e) => {
			e.preventDefault();
			this.#add({kind: kind.value, ...(where.hidden ? {} : {url: where.value.trim()})});
		}}, kind, where, h("button.primary", "Add"));
		root.append(h("h2", "Recording"), this.record, this.recordings, h("h2", "Send to"), form, this.error, this.list, h("h2", "Links"), this.links);
		setInterval(() => this.#tick(), 500);
	}

	get #path() {
		return `${this.app.control.path}/outputs`;
	}

	state(stream) {
		const before = this.#recording;
		this.outputs = stream.outputs ?? [];
		const now = this.outputs.find((o) => o.kind === "record" && o.state !== "done" && o.state !== "failed") ?? null;
		if (now && now.id !== before?.id)
			this.#started = performance.now() - 1000 * (now.seconds ?? 0);
		this.#recording = now;
		this.list.replaceChildren(...this.outputs.filter((o) => o.kind !== "record").map((o) => h("li", null,
			h("b", KINDS[o.kind]?.label ?? o.kind), h("span", {title: o.url ?? ""}, o.url ?? ""), h("em", {"data-state": o.state}, [o.state, o.reason].filter(Boolean).join(": ")),
			tool("close", `Stop ${o.kind}`, () => this.#remove(o.id)))));
		if (before && !now)
			this.#recorded();
		this.#links(stream);
		this.#tick();
	}

	open() {
		this.#recorded();
	}

	async toggleRecord() {
		if (this.#recording)
			await this.#remove(this.#recording.id);
		else
			await this.#add({kind: "record"});
	}

	#tick() {
		const on = Boolean(this.#recording);
		const label = on ? clock((performance.now() - this.#started) / 1000) : "Record";
		this.record.lastChild.textContent = on ? `Stop · ${label}` : label;
		this.record.classList.toggle("on", on);
		this.app.recording(on, label);
	}

	async #try(what) {
		this.error.hidden = true;
		try {
			return await what();
		} catch (e) {
			this.error.textContent = e.message;
			this.error.hidden = false;
			oops(e);
			return null;
		}
	}

	#add(what) {
		return this.#try(() => call("POST", this.#path, {json: what}));
	}

	#remove(id) {
		return this.#try(() => call("DELETE", `${this.#path}/${seg(id)}`));
	}

	async #recorded() {
		const all = await this.#try(async () => listOf(await call("GET", "api/v1/recordings")));
		this.recordings.replaceChildren(...(all ?? []).map((r) => h("li", null,
			h("a", {href: openUrl(`api/v1/recordings/${seg(r.name)}`), download: r.name}, icon("load"), r.name),
			h("small", bytes(r.bytes)),
			tool("trash", `Delete ${r.name}`, () => this.#try(() => call("DELETE", `api/v1/recordings/${seg(r.name)}`)).then(() => this.#recorded())))));
	}

	#links(stream) {
		const all = [
			stream.publish_key && ["OBS and other senders (WHIP)", url(`live/${seg(stream.publish_key)}/whip`)],
			stream.playback_id && ["Viewers (WHEP)", url(`live/${seg(stream.playback_id)}/whep`)],
			stream.playback_id && ["Anything that shows a picture (MJPEG)", url(`live/${seg(stream.playback_id)}/mjpeg`)],
			stream.playback_id && this.outputs.some((o) => o.kind === "hls") && ["HLS", url(`live/${seg(stream.playback_id)}/hls/index.m3u8`)],
			["The picture alone, for a projector", this.app.outputUrl()],
		].filter(Boolean);
		const text = JSON.stringify(all);
		if (text === this.links.dataset.now)
			return;
		this.links.dataset.now = text;
		this.links.replaceChildren(...all.map(([label, link]) => h("div.link", h("label", label), h("span.line", null,
			h("input", {type: "text", readOnly: true, value: link, label: label, onfocus: (e) => e.target.select()}),
			tool("copy", `Copy: ${label}`, () => navigator.clipboard.writeText(link).then(() => toast("Copied."), () => toast("Select the text, and copy it by hand.")))))));
	}
}
