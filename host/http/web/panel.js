// panel.js - the controls of one plugin of the chain, generated from its schema.
import {h, kept, words} from "./dom.js";
import {Field} from "./field.js";
import {shown} from "./controls/index.js";
import {resolution} from "./controls/resolution.js";
import {Presets} from "./presets.js";

export class Panel {
	fields = new Map(); // by each name that it is about
	draft = {}; // load parameters that were changed and wait for a yes
	values = {};

	// `load`: the plugin does not run yet; this takes the values to load it with.
	constructor(app, link, plugin, key, load = null) {
		Object.assign(this, {app, link, plugin, key, load, schema: plugin.schema ?? {properties: {}}});
		this.bar = h("div.reload", {role: "group", label: "Reload", hidden: true});
		this.presets = new Presets(this);
		this.search = h("input.search", {type: "search", placeholder: "Find a control  /", label: "Find a control", oninput: () => this.see()});
		this.inputs = h("div.fields", {label: "Input"});
		this.body = h("div.fields");
		const all = shown(this.schema.properties);
		this.#build(all);
		this.element = h("section.panel", {label: plugin.name}, this.bar, this.presets.element, all.length > 12 ? this.search : null, this.body,
			all.length ? null : h("p.quiet", "This plugin has no parameters."));
	}

	#build(all) {
		const groups = new Map();
		const size = this.#size(all);
		for (const [name, schema] of all) {
			if (this.fields.has(name))
				continue;
			const field = name === size?.[0]
				? new Field(this, size, {...schema, description: "Size of the result.", type: "resolution"}, {label: "Size", make: (env) => this.#resolution(size, env)})
				: new Field(this, [name], schema, {label: schema.ui.label ?? schema.title ?? words(name)});
			field.names.forEach((n) => this.fields.set(n, field));
			this.app.targets.set(field.key, field);
			const group = schema.ui.group;
			if (schema.ui.category === "input" || (name === "transition_steps" && this.schema.properties.prompts))
				this.inputs.append(field.element);
			else if (!group)
				this.body.append(field.element);
			else
				this.#group(groups, group).append(field.element);
		}
		this.body.append(...[...groups.values()].map((g) => g.parentElement));
	}

	// The two fields that are one size: those with the component, else width beside height.
	#size(all) {
		const pair = all.filter(([, s]) => s.ui.component === "resolution").map(([n]) => n);
		const names = pair.length === 2 ? pair : all.map(([n]) => n).filter((n) => n === "width" || n === "height");
		return names.length === 2 ? names.sort((a, b) => (/width/.test(b) ? 1 : 0) - (/width/.test(a) ? 1 : 0)) : null;
	}

	#resolution([wide, high], env) {
		const p = this.schema.properties;
		const control = resolution({w: p[wide], h: p[high]}, {
			...env, set: (v) => env.set(Object.fromEntries(Object.entries(v).map(([k, n]) => [k === "w" ? wide : high, n]))),
		});
		control.pick = (v) => ({w: v[wide], h: v[high]});
		return control;
	}

	#group(groups, name) {
		if (!groups.has(name)) {
			const at = `group.${this.plugin.id}.${name}`;
			const box = h("div.fields");
			const details = h("details.group", {open: kept.get(at, false), ontoggle: () => this.search.value || kept.set(at, details.open)}, h("summary", name), box);
			groups.set(name, box);
		}
		return groups.get(name);
	}

	// What the controls show: in force, or set and not yet answered.
	shown(names) {
		return Object.fromEntries(names.map((n) => [n, this.draft[n] ?? this.values[n]]));
	}

	// A person, a knob or an oscillator wants these values.
	change(values) {
		const now = {};
		for (const [name, v] of Object.entries(values)) {
			const field = this.fields.get(name);
			if (field?.isLoad || this.load)
				this.draft[name] = v;
			else
				now[name] = v;
		}
		if (Object.keys(now).length) {
			this.app.control.set(this.link, now, {key: Object.keys(now).join()});
			Object.assign(this.values, now);
			Object.keys(now).forEach((n) => this.fields.get(n)?.pend(true));
		}
		this.#ask();
		this.see();
	}

	// Values in force. `asked`: what this page had set, when this is the answer to it.
	inForce(values, asked = {}) {
		for (const name of Object.keys(asked ?? {})) {
			if (!this.app.control.pending(this.link, name))
				this.fields.get(name)?.complain("");
		}
		const before = this.values;
		this.values = {...values};
		for (const field of new Set(this.fields.values())) {
			const pending = field.names.some((n) => this.app.control.pending(this.link, n));
			field.pend(pending);
			if (pending)
				field.names.forEach((n) => { this.values[n] = before[n] ?? values[n]; });
			else if (!field.names.some((n) => n in this.draft))
				field.show(values);
		}
		for (const name of Object.keys(this.draft)) {
			if (JSON.stringify(this.draft[name]) === JSON.stringify(values[name]))
				delete this.draft[name];
		}
		this.#ask();
		this.see();
	}

	refused({field, error, reload, asked}) {
		const names = Object.keys(asked ?? {});
		names.forEach((n) => this.fields.get(n)?.pend(this.app.control.pending(this.link, n)));
		if (reload) {
			Object.assign(this.draft, asked);
			this.#ask();
			return;
		}
		const name = (field || names[0] || "").split(/[.[]/)[0];
		const at = this.fields.get(name);
		if (at) {
			at.complain(error);
			at.element.closest("details")?.setAttribute("open", "");
		} else
			this.app.warn(error);
	}

	// The question before a reload: at the head of the panel, never in the way.
	#ask() {
		const names = Object.keys(this.draft);
		for (const field of new Set(this.fields.values()))
			field.element.classList.toggle("drafted", field.names.some((n) => n in this.draft));
		if (this.bar.hidden === !names.length && this.bar.dataset.names === names.join())
			return;
		this.bar.hidden = !names.length;
		this.bar.dataset.names = names.join();
		const label = (n) => this.fields.get(n)?.label ?? words(n);
		this.bar.replaceChildren(h("p", {role: "alert"}, this.load ? `${this.plugin.name} is loaded with these values.`
			: `${names.map(label).join(", ")}: ${this.plugin.name} has to load anew for this. The picture goes on until it is ready.`),
		h("button.primary", {onclick: () => this.#reload()}, this.load ? "Load" : "Load anew"),
		h("button", {onclick: () => this.#undo()}, "Leave it"));
	}

	#reload() {
		const values = this.draft;
		this.draft = {};
		Object.assign(this.values, values);
		if (this.load) {
			this.load(this.values);
			return;
		}
		Object.keys(values).forEach((n) => this.fields.get(n)?.pend(true));
		this.app.control.set(this.link, values, {key: "reload", reload: true});
		this.#ask();
	}

	#undo() {
		this.draft = {};
		this.#ask();
		for (const field of new Set(this.fields.values())) {
			field.complain("");
			field.show(this.values);
		}
	}

	// Which rows are shown: visible_if, modes, and what is looked for.
	see() {
		const v = this.shown([...this.fields.keys()]);
		const mode = v.input_mode ?? "video";
		const looked = this.search.value.trim().toLowerCase();
		for (const field of new Set(this.fields.values())) {
			const {visible_if: needs, modes} = field.schema.ui ?? {};
			const fits = Object.entries(needs ?? {}).every(([n, want]) => v[n] === want) && (!modes || modes.includes(mode));
			field.element.hidden = !fits || (looked !== "" && !field.find.includes(looked));
		}
		for (const d of this.body.querySelectorAll("details.group")) {
			d.hidden = ![...d.querySelectorAll(".field")].some((f) => !f.hidden);
			if (looked)
				d.open = true;
		}
	}

	// Small signs of what else moves a control.
	marks() {
		for (const field of new Set(this.fields.values())) {
			field.element.classList.toggle("moving", Boolean(this.app.lfo.get(field.key)));
			field.element.dataset.midi = this.app.midi.about(field.key) ?? "";
		}
	}

	close() {
		for (const field of new Set(this.fields.values()))
			this.app.targets.delete(field.key);
	}
}
