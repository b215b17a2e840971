// strip.js - the numbers under the picture, and the last minute of them as a graph.
import {h} from "./dom.js";

const SECONDS = 60;

const cells = [
	["fps", "Frames", "fps", "Frames in a second"],
	["model", "Model", "ms", "Time inside the plugins (p50)"],
	["p95", "p95", "ms", "95 of 100 frames take no longer"],
	["p99", "p99", "ms", "99 of 100 frames take no longer"],
	["age", "Age", "ms", "From the camera to this screen"],
	["dropped", "Drops", "", "Frames replaced by a newer one"],
	["skipped", "Skips", "", "Calls that made no frame"],
];

const short = (n) => n >= 10000 ? `${Math.round(n / 1000)}k` : String(n);
const ms = (n) => n === null || n === undefined || !isFinite(n) ? "–" : n >= 100 ? String(Math.round(n)) : n.toFixed(1);

export class Strip {
	app;
	#points = []; // {at, fps, age}
	#values = {};

	constructor(app, root) {
		this.app = app;
		this.canvas = h("canvas.graph", {role: "img", label: "Frames a second and age of the picture over the last minute"});
		root.append(h("dl", cells.map(([key, label, unit, about]) => {
			this.#values[key] = h("dd", "–");
			return h(`div.cell.${key}`, {title: about}, h("dt", label), this.#values[key], unit ? h("small", unit) : null);
		})), this.canvas);
		new ResizeObserver(() => this.#graph()).observe(this.canvas);
	}

	async stats(s) {
		const age = await this.app.stage.age();
		const set = (key, text) => { this.#values[key].textContent = text; };
		set("fps", s.fps_out ? s.fps_out.toFixed(1) : "0");
		set("model", ms(s.model_ms.p50));
		set("p95", ms(s.model_ms.p95));
		set("p99", ms(s.model_ms.p99));
		set("age", ms(age ?? (s.fps_out ? s.age_ms.p50 : null)));
		set("dropped", short(s.dropped));
		set("skipped", short(s.skipped + s.repeated));
		const at = performance.now();
		this.#points.push({at, fps: s.fps_out, age: age ?? s.age_ms.p50 ?? 0});
		while (this.#points[0].at < at - SECONDS * 1000)
			this.#points.shift();
		this.#graph();
	}

	clear() {
		this.#points = [];
		for (const dd of Object.values(this.#values))
			dd.textContent = "–";
		this.#graph();
	}

	#graph() {
		const {clientWidth: w, clientHeight: hh} = this.canvas;
		if (!w || !hh)
			return;
		const scale = devicePixelRatio;
		this.canvas.width = w * scale;
		this.canvas.height = hh * scale;
		const c = this.canvas.getContext("2d");
		c.scale(scale, scale);
		const now = performance.now();
		const style = getComputedStyle(this.canvas);
		c.strokeStyle = style.getPropertyValue("--line");
		c.beginPath();
		for (let s = 15; s < SECONDS; s += 15) {
			const x = Math.round(w - s / SECONDS * w) + 0.5;
			c.moveTo(x, 0);
			c.lineTo(x, hh);
		}
		c.stroke();
		const line = (key, top, color, fill) => {
			if (this.#points.length < 2)
				return;
			c.beginPath();
			this.#points.forEach((p, i) => {
				const x = w - (now - p.at) / (SECONDS * 1000) * w;
				const y = hh - 2 - Math.min(1, p[key] / top) * (hh - 6);
				i ? c.lineTo(x, y) : c.moveTo(x, y);
			});
			c.strokeStyle = color;
			c.lineWidth = 1.5;
			c.lineJoin = "round";
			c.stroke();
			if (fill) {
				c.lineTo(w, hh);
				c.lineTo(w - (now - this.#points[0].at) / (SECONDS * 1000) * w, hh);
				c.globalAlpha = 0.12;
				c.fillStyle = color;
				c.fill();
				c.globalAlpha = 1;
			}
		};
		const top = (key, least) => Math.max(least, ...this.#points.map((p) => p[key])) * 1.15;
		line("fps", top("fps", 10), style.getPropertyValue("--accent"), true);
		line("age", top("age", 50), style.getPropertyValue("--age"), false);
	}
}
