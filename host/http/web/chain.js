// chain.js - the plugins of a stream in a row: add, replace, move, remove; each has its panel.
import {h, icon, tool, menu, popover, oops} from "./dom.js";
import {call, seg} from "./api.js";
import {Panel} from "./panel.js";

export class Chain {
	panels = [];
	selected = 0;
	setup = null; // the panel of a plugin that is wanted, and could not be loaded
	#wanted = null;
	#refusal = null; // what the server said of it
	app;
	#signature = "";

	constructor(app, root, inputs) {
		this.app = app;
		this.inputs = inputs;
		this.row = h("ol.chain", {label: "Plugins, in the order in which the picture goes through them"});
		this.error = h("p.error", {role: "alert", hidden: true});
		this.body = h("div");
		root.append(h("div.chain-head", this.row,
			tool("add", "Add a plugin", (e) => this.pick(e.currentTarget, (id) => this.add(id)), "add-plugin")), this.error, this.body);
	}

	get panel() {
		return this.panels[this.selected];
	}

	state(stream) {
		const signature = stream.chain.map((l) => l.plugin).join("\n");
		if (signature !== this.#signature || stream.id !== this.streamId) {
			this.#signature = signature;
			this.streamId = stream.id;
			this.#build(stream);
		}
		stream.chain.forEach((l, i) => this.panels[i].inForce(l.values));
		if (this.#wanted && !/loading/.test(stream.state))
			this.#settle(stream).catch(oops);
	}

	// Is the chain there that was asked for? If not, the plugin that could not be loaded shows its
	// controls all the same: it may only want another value.
	async #settle(stream) {
		const wanted = this.#wanted;
		const missing = () => wanted.findIndex((l, i) => stream.chain[i]?.plugin !== l.plugin);
		if (missing() >= 0) // what was told may be older than what was asked for
			stream = await call("GET", this.app.control.path);
		if (/loading/.test(stream.state) || this.#wanted !== wanted)
			return;
		this.#wanted = null;
		const at = missing();
		const plugin = this.app.plugins.find((p) => p.id === wanted[at]?.plugin);
		if (!plugin)
			return;
		const set = this.setup = new Panel(this.app, -1, plugin, plugin.id, (values) => this.put(() => wanted.with(at, {plugin: plugin.id, values}), at));
		const defaults = Object.entries(plugin.schema.properties).map(([n, s]) => [n, s.default]);
		set.inForce({...Object.fromEntries(defaults), ...wanted[at].values});
		if (this.#refusal?.field) // else the notice says it all
			set.refused({...this.#refusal, asked: {}});
		this.row.append(h("li.failed", h("button.pick", {onclick: () => this.select(this.panels.length)}, plugin.name), tool("close", `Leave ${plugin.name} out`, () => {
			this.setup = null;
			this.#build(stream);
		})));
		this.select(this.panels.length);
	}

	#build(stream) {
		this.panels.forEach((p) => p.close());
		const seen = new Map();
		this.panels = stream.chain.map((l, i) => {
			const n = (seen.get(l.plugin) ?? 0) + 1;
			seen.set(l.plugin, n);
			const plugin = this.app.plugins.find((p) => p.id === l.plugin) ?? {id: l.plugin, name: l.plugin, schema: {properties: {}}};
			const panel = new Panel(this.app, i, plugin, plugin.id + (n > 1 ? `#${n}` : ""));
			panel.values = {...l.values};
			return panel;
		});
		this.row.replaceChildren(...this.panels.map((p, i) => this.#chip(p, i)));
		this.select(Math.min(this.selected, Math.max(0, this.panels.length - 1)));
		this.marks();
	}

	#chip(panel, i) {
		const open = (e) => this.#menu(e.currentTarget, i);
		const chip = h("li", {draggable: true,
			ondragstart: (e) => e.dataTransfer.setData("text/x-link", String(i)),
			ondragover: (e) => e.dataTransfer.types.includes("text/x-link") && e.preventDefault(),
			ondrop: (e) => { e.preventDefault(); this.move(Number(e.dataTransfer.getData("text/x-link")), i); },
		}, h("button.pick", {"aria-pressed": "false", onclick: () => this.select(i), onkeydown: (e) => {
			if (e.altKey && (e.key === "ArrowLeft" || e.key === "ArrowRight")) {
				e.preventDefault();
				this.move(i, i + (e.key === "ArrowLeft" ? -1 : 1));
			}
		}}, h("small", String(i + 1)), panel.plugin.name), tool("more", `More on ${panel.plugin.name}`, open));
		return chip;
	}

	#menu(anchor, i) {
		menu(anchor, [
			{label: "Replace by…", icon: "swap", onpick: () => this.pick(anchor, (id) => this.replace(i, id))},
			{label: "Earlier", icon: "left", disabled: i === 0, onpick: () => this.move(i, i - 1)},
			{label: "Later", icon: "right", disabled: i + 1 >= this.panels.length, onpick: () => this.move(i, i + 1)},
			{label: "Forget earlier frames", icon: "reset", onpick: () => this.app.control.send({type: "reset"})},
			null,
			{label: "Remove", icon: "trash", onpick: () => this.put((c) => c.toSpliced(i, 1))},
		]);
	}

	select(i) {
		this.selected = i;
		[...this.row.children].forEach((li, k) => {
			li.classList.toggle("on", k === i);
			li.firstChild.setAttribute("aria-pressed", String(k === i));
		});
		const panel = this.panels[i] ?? this.setup;
		this.body.replaceChildren(panel ? panel.element
			: h("button.nothing", {onclick: (e) => this.pick(e.currentTarget, (id) => this.add(id))}, icon("add"), "Add a plugin"));
		this.inputs.replaceChildren(...(panel?.inputs.childElementCount ? [h("h2", "Input"), panel.inputs] : []));
		panel?.see();
	}

	values(m) {
		this.panels[m.link]?.inForce(m.values, m.asked);
	}

	refused(m) {
		if (m.n === undefined)
			this.#refusal = m; // nothing that this page has set: a plugin that is being loaded
		else
			this.panels[m.link]?.refused(m);
	}

	marks() {
		this.panels.forEach((p) => p.marks());
	}

	// What a plugin starts with: its preset "demo", where it has one, so that a picture comes at once.
	async #start(id) {
		const at = `api/v1/presets/${seg(id)}`;
		const has = await call("GET", at).then((a) => "demo" in a.presets, () => false);
		return {plugin: id, ...(has ? await call("GET", `${at}/demo`) : {})};
	}

	async add(id) {
		const link = await this.#start(id);
		return this.put((c) => [...c, link], this.panels.length);
	}

	async replace(i, id) {
		const link = await this.#start(id);
		return this.put((c) => c.with(i, link), i);
	}

	move(from, to) {
		if (from !== to && to >= 0 && to < this.panels.length)
			return this.put((c) => c.toSpliced(from, 1).toSpliced(to, 0, c[from]), to);
	}

	// Ask for another chain; the old one shows until the new one is ready.
	async put(edit, select = this.selected) {
		this.error.hidden = true;
		const chain = edit(this.app.control.stream.chain.map(({plugin, values}) => ({plugin, values})));
		try {
			this.selected = select;
			this.setup = this.#refusal = this.#wanted = null;
			await call("PATCH", this.app.control.path, {json: {chain}});
			this.#wanted = chain;
			await this.#settle(await call("GET", this.app.control.path)); // it may have failed by now
		} catch (e) {
			this.error.textContent = e.message;
			this.error.hidden = false;
		}
	}

	// The list of plugins; those that cannot run say why.
	pick(anchor, picked) {
		const items = this.app.plugins.map((p) => {
			const b = h("button.plugin", {role: "option", disabled: Boolean(p.fault), onclick: () => { at.close(); picked(p.id); }},
				h("b", p.name || p.id), h("small", p.fault ? p.fault : p.schema?.description ?? p.id));
			b.dataset.find = `${p.name} ${p.id}`.toLowerCase();
			return b;
		});
		const search = h("input", {type: "search", placeholder: "Plugins", label: "Find a plugin", autofocus: true, oninput: () => items.forEach((b) => {
			b.hidden = !b.dataset.find.includes(search.value.toLowerCase());
		})});
		const at = popover(anchor, [h("div.line", search, tool("reset", "Look for plugins again", async () => {
			await this.app.loadPlugins(true);
			at.close();
			this.pick(anchor, picked);
		})), h("div.plugins", {role: "listbox", label: "Plugins"}, items)], {wide: true});
	}
}
