// lfo.js - oscillators that move parameters: run here, set like a hand would.
import {h, kept, unique} from "./dom.js";

const WAVES = {
	sine: (p) => Math.sin(2 * Math.PI * p),
	triangle: (p) => 1 - 4 * Math.abs(((p + 0.25) % 1) - 0.5),
	saw: (p) => 2 * (p % 1) - 1,
	square: (p) => (p % 1 < 0.5 ? 1 : -1),
	random: (p) => noise(Math.floor(p)) + (noise(Math.floor(p) + 1) - noise(Math.floor(p))) * (p % 1),
};
const noise = (n) => {
	const x = Math.sin(n * 12.9898) * 43758.5453;
	return 2 * (x - Math.floor(x)) - 1;
};

export class Lfo {
	bpm = kept.get("bpm", 120);
	app;
	#moving = new Map(Object.entries(kept.get("lfo", {}))); // key -> {wave, beats, depth, base}
	#taps = [];

	constructor(app) {
		this.app = app;
		const tick = () => { this.#tick(); requestAnimationFrame(tick); };
		requestAnimationFrame(tick);
	}

	get(key) {
		return this.#moving.get(key);
	}

	set(key, how) {
		how ? this.#moving.set(key, how) : this.#moving.delete(key);
		kept.set("lfo", Object.fromEntries(this.#moving));
		this.app.marks();
	}

	// A hand has moved what an LFO moves: it goes on around there.
	moved(key, value) {
		const how = this.#moving.get(key);
		if (how && typeof value === "number")
			how.base = value;
	}

	tap() {
		const now = performance.now();
		if (now - (this.#taps.at(-1) ?? 0) > 2000)
			this.#taps = [];
		this.#taps.push(now);
		if (this.#taps.length > 8)
			this.#taps.shift();
		if (this.#taps.length > 2)
			this.setBpm(60000 * (this.#taps.length - 1) / (now - this.#taps[0]));
		return this.bpm;
	}

	setBpm(bpm) {
		this.bpm = Math.max(20, Math.min(300, Math.round(bpm * 10) / 10));
		kept.set("bpm", this.bpm);
	}

	#tick() {
		const beat = performance.now() / 60000 * this.bpm;
		for (const [key, {wave, beats, depth, base}] of this.#moving) {
			const target = this.app.targets.get(key);
			if (!target?.control.range || target.control.busy)
				continue;
			const {low, high, snap} = target.control.range;
			const v = snap(Math.max(low, Math.min(high, base + WAVES[wave](beat / beats) * depth * (high - low) / 2)));
			if (v !== target.driven)
				target.drive(target.driven = v);
		}
	}
}

// The form of one parameter's LFO.
export function lfoForm(app, field) {
	const {lfo} = app;
	const now = lfo.get(field.key);
	const base = () => now?.base ?? field.panel.shown([field.name])[field.name];
	const id = unique("lfo");
	const on = h("input", {type: "checkbox", id, checked: Boolean(now)});
	const wave = h("select", {label: "Wave"}, Object.keys(WAVES).map((w) => h("option", {selected: w === now?.wave}, w)));
	const beats = h("select", {label: "Beats for one wave"}, [0.25, 0.5, 1, 2, 4, 8, 16, 32].map((b) =>
		h("option", {selected: b === (now?.beats ?? 4), value: b}, `${b} beats`)));
	const depth = h("input", {type: "range", min: 0, max: 1, step: 0.01, value: now?.depth ?? 0.5, label: "Depth"});
	const bpm = h("input.entry", {type: "number", min: 20, max: 300, step: 0.1, value: lfo.bpm, label: "Beats a minute", onchange: () => lfo.setBpm(Number(bpm.value))});
	const apply = () => lfo.set(field.key, on.checked ? {wave: wave.value, beats: Number(beats.value), depth: Number(depth.value), base: base()} : null);
	for (const el of [on, wave, beats])
		el.addEventListener("change", apply);
	depth.addEventListener("input", apply);
	return h("fieldset.lfo", h("legend", on, h("label", {htmlFor: id}, "LFO")), h("div.line", wave, beats),
		h("div.line", h("span", "depth"), depth), h("div.line", bpm, h("span", "bpm"), h("button", {onclick: () => { bpm.value = lfo.tap(); }}, "Tap")));
}
