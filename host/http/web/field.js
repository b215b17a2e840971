// field.js - one row of a panel: a control, its reset and menu, whether it is pending, what is wrong.
import {h, icon, tool, popover, unique} from "./dom.js";
import {controlFor} from "./controls/index.js";
import {lfoForm} from "./lfo.js";

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export class Field {
	inForce = undefined;
	#bad = false;

	// `make(env)` draws the control, where it is not the one of the schema. names: what it is about.
	constructor(panel, names, schema, {label, make = null} = {}) {
		Object.assign(this, {panel, names, schema, name: names[0], label});
		const id = unique("f");
		const set = (v) => this.#changed(make ? v : {[this.name]: v});
		const env = {app: panel.app, name: this.name, label, id, entryId: `${id}-n`, set, component: schema.ui?.component, reset: () => this.reset()};
		this.control = make ? make(env) : controlFor(schema, env);
		this.back = tool("reset", `Reset ${label}`, () => this.reset(), "back");
		this.more = tool("more", `More on ${label}`, () => this.#menu(), "more");
		this.wrong = h("p.error", {role: "alert", hidden: true});
		this.element = h("div.field", {title: schema.description ?? "", "data-name": this.name},
			h("div.row", this.control.element, this.back, this.more), this.wrong);
		this.element.addEventListener("dblclick", (e) => e.target.closest("label, .label") && this.reset());
		if (schema.ui?.is_load_param) {
			this.element.classList.add("load");
			this.element.querySelector("label, .label, .name, summary")?.append(
				h("em", {title: "Changing it loads the plugin anew", role: "img", label: "loads anew"}, "↻"));
		}
		this.find = `${label} ${names.join(" ")} ${schema.description ?? ""}`.toLowerCase();
	}

	get isLoad() {
		return Boolean(this.schema.ui?.is_load_param);
	}

	get defaults() {
		return Object.fromEntries(this.names.map((n) => [n, this.panel.schema.properties[n].default]));
	}

	get key() {
		return this.panel.key + "/" + this.name;
	}

	reset() {
		this.#put(this.defaults);
		this.#changed(this.defaults);
	}

	// A value from a knob or an LFO.
	drive(v) {
		this.#put({[this.name]: v});
		this.panel.change({[this.name]: v});
	}

	#changed(values) {
		this.complain("");
		this.panel.app.lfo.moved(this.key, values[this.name]);
		this.panel.change(values);
		this.#differs({...this.panel.shown(this.names), ...values});
	}

	#put(values) {
		this.control.show(this.control.pick ? this.control.pick(values) : values[this.name]);
	}

	#differs(values) {
		const off = this.names.some((n) => !same(values[n], this.defaults[n]));
		this.back.classList.toggle("off", off);
		this.back.tabIndex = off ? 0 : -1;
		this.back.title = `Reset ${this.label} to ${JSON.stringify(this.defaults[this.name])}`;
	}

	// The values in force; not while a person is at it, or the answer to what they did is due.
	show(values) {
		const mine = Object.fromEntries(this.names.map((n) => [n, values[n]]));
		const news = !same(mine, this.inForce);
		this.inForce = mine;
		if (this.control.busy || (this.#bad && !news))
			return;
		this.#put(mine);
		this.#differs(mine);
	}

	pend(on) {
		this.element.classList.toggle("pending", on);
	}

	complain(text) {
		this.#bad = Boolean(text);
		this.wrong.textContent = text;
		this.wrong.hidden = !text;
		this.element.classList.toggle("bad", this.#bad);
		for (const el of this.control.element.querySelectorAll("input, textarea, select"))
			text ? el.setAttribute("aria-invalid", "true") : el.removeAttribute("aria-invalid");
	}

	#menu() {
		const {app} = this.panel;
		const s = this.schema;
		const facts = [s.minimum !== undefined ? `${s.minimum} to ${s.maximum ?? "∞"}${s.ui?.unit ? " " + s.ui.unit : ""}` : null,
			s.type === "object" ? null : `default ${JSON.stringify(s.default)}`, this.isLoad ? "read when the plugin loads" : null, `OSC /scope/${this.name}`];
		const canLearn = (this.control.range || this.control.midi) && !this.isLoad;
		const bound = app.midi.about(this.key);
		const at = popover(this.more, h("div.about-field", h("h3", this.label), h("p", s.description ?? ""),
			h("p.facts", facts.filter(Boolean).join(" · ")),
			h("div.line", h("button", {onclick: () => { at.close(); this.reset(); }}, icon("reset"), "Reset"),
				canLearn ? h("button", {onclick: () => { at.close(); app.midi.learn(this.key, this.label); }}, "MIDI learn") : null,
				bound ? h("button", {onclick: () => { at.close(); app.midi.forget(this.key); }}, `Forget ${bound}`) : null),
			this.control.range && s.ui?.modulatable && !this.isLoad ? lfoForm(app, this) : null), {wide: true});
	}
}
