// settings.js - what is set for this browser alone: transport, codecs, MIDI.
import {h, kept, popover, tool, unique} from "./dom.js";

const defaults = {transport: "auto", codec: "vp8", viewCodec: "vp8", size: "720p", bitrate: 0};

const choices = {
	transport: ["Transport", {auto: "automatic", websocket: "WebSocket", webrtc: "WebRTC", mjpeg: "MJPEG"}],
	codec: ["Send as", {vp8: "VP8", h264: "H.264"}],
	viewCodec: ["Watch as", {vp8: "VP8", h264: "H.264", jpeg: "JPEG"}],
	bitrate: ["Send at", {0: "by size", 1000000: "1 Mbit/s", 3000000: "3 Mbit/s", 8000000: "8 Mbit/s", 20000000: "20 Mbit/s"}],
};

export const settings = {...defaults, ...kept.get("settings", {})};

export function openSettings(anchor, app) {
	const rows = Object.entries(choices).map(([key, [label, options]]) => {
		const id = unique("set");
		const box = h("select", {id, onchange: () => app.setSetting(key, typeof defaults[key] === "number" ? Number(box.value) : box.value)},
			Object.entries(options).map(([v, text]) => h("option", {value: v, selected: String(settings[key]) === v}, text)));
		return h("div.pair", h("label", {htmlFor: id}, label), box);
	});
	const midi = app.midi.bindings.map(([, key]) => h("div.pair", h("span", `${app.midi.about(key)} → ${app.targets.get(key)?.label ?? key.split("/").at(-1)}`),
		tool("close", `Forget ${app.midi.about(key)}`, (e) => { app.midi.forget(key); e.currentTarget.parentElement.remove(); })));
	popover(anchor, h("div.settings", h("h3", "This browser"), rows,
		h("p.quiet", `The picture comes by ${choices.transport[1][app.stage.transport]}.`),
		h("h3", "MIDI"), midi.length ? midi : h("p.quiet", "Every control has MIDI learn in its menu ( ⋯ )."),
		h("div.line", ["record", "freeze", "black"].map((name) =>
			h("button", {onclick: () => app.midi.learn(`action/${name}`, app.actions[name].label)}, `Learn ${name}`)))), {wide: true});
}

export function change(key, value) {
	settings[key] = value;
	kept.set("settings", settings);
}
