// presets.js - values of a plugin, kept by name on the server; to and from files, too.
import {h, tool, menu, toast, oops} from "./dom.js";
import {call, seg} from "./api.js";

export class Presets {
	names = [];

	constructor(panel) {
		this.panel = panel;
		this.row = h("div.names");
		this.name = h("input", {type: "text", placeholder: "Name", label: "Name of the preset", maxLength: 64});
		this.form = h("form.line", {hidden: true, onsubmit: (e) => { e.preventDefault(); this.#save(); }}, this.name, h("button.primary", "Save"),
			tool("close", "Do not save", () => { this.form.hidden = true; }));
		this.element = h("div.presets", {role: "group", label: "Presets"}, this.row,
			tool("save", "Save as a preset", () => { this.form.hidden = false; this.name.focus(); }),
			tool("more", "More on presets", (e) => this.#menu(e.currentTarget)), this.form);
		this.#list();
	}

	get #path() {
		return `api/v1/presets/${seg(this.panel.plugin.id)}`;
	}

	async #list() {
		try {
			this.names = Object.keys((await call("GET", this.#path)).presets).sort();
		} catch {
			this.names = [];
		}
		this.row.replaceChildren(...this.names.map((name, i) => h("button", {title: i < 9 ? `Key ${i + 1}` : "", onclick: () => this.use(i)},
			i < 9 ? h("kbd", String(i + 1)) : null, name)),
			...(this.names.length ? [] : [h("span.quiet", "No presets yet")]));
	}

	async use(i) {
		if (!this.names[i])
			return;
		try {
			const got = await call("GET", `${this.#path}/${seg(this.names[i])}`);
			this.apply(got.values);
			[...this.row.children].forEach((b, k) => b.classList.toggle("on", k === i));
		} catch (e) {
			oops(e);
		}
	}

	// What the plugin has, and differs, is set.
	apply(values) {
		const {properties} = this.panel.schema;
		const have = Object.entries(values).filter(([name]) => properties[name]);
		const now = this.panel.shown(have.map(([n]) => n));
		const news = have.filter(([n, v]) => JSON.stringify(now[n]) !== JSON.stringify(v));
		if (news.length)
			this.panel.change(Object.fromEntries(news));
		for (const [n] of news) {
			const f = this.panel.fields.get(n);
			f?.show({...this.panel.shown(f.names)});
		}
	}

	async #save() {
		const name = this.name.value.trim();
		if (!name)
			return;
		try {
			await call("PUT", `${this.#path}/${seg(name)}`, {json: {values: this.panel.values}});
			this.form.hidden = true;
			this.name.value = "";
			await this.#list();
			toast(`Saved as ${name}.`);
		} catch (e) {
			oops(e);
		}
	}

	#menu(anchor) {
		menu(anchor, [
			{label: "Reset everything", icon: "reset", onpick: () => this.apply(Object.fromEntries(Object.entries(this.panel.schema.properties).map(([n, s]) => [n, s.default])))},
			{label: "Export to a file", icon: "load", onpick: () => this.#export()},
			{label: "Import a file", icon: "upload", onpick: () => this.#import()},
			...(this.names.length ? [null] : []),
			...this.names.map((name) => ({label: `Delete ${name}`, icon: "trash", onpick: () => call("DELETE", `${this.#path}/${seg(name)}`).then(() => this.#list(), oops)})),
		]);
	}

	#export() {
		const file = new Blob([JSON.stringify(this.panel.values, null, 2)], {type: "application/json"});
		const a = h("a", {href: URL.createObjectURL(file), download: `${this.panel.plugin.id}.json`});
		a.click();
		setTimeout(() => URL.revokeObjectURL(a.href), 1000);
	}

	#import() {
		const input = h("input", {type: "file", accept: ".json,application/json", onchange: async () => {
			try {
				const values = JSON.parse(await input.files[0].text());
				if (typeof values !== "object" || values === null || Array.isArray(values))
					throw new Error("not an object of values");
				this.apply(values);
			} catch (e) {
				toast(`${input.files[0].name} holds no values: ${e.message}.`, {kind: "error"});
			}
		}});
		input.click();
	}
}
