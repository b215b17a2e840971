// streams.js - which stream this page is about: pick, make, rename, end.
import {h, icon, menu, toast, oops} from "./dom.js";
import {call, seg, listOf} from "./api.js";

export class Streams {
	app;

	constructor(app, root) {
		this.app = app;
		this.label = h("span", "…");
		this.button = h("button.stream", {"aria-haspopup": "menu", title: "Streams", onclick: () => this.#menu()}, this.label, icon("down"));
		root.append(this.button);
	}

	state(stream) {
		this.label.textContent = stream.name || stream.id;
	}

	// The stream of the address, else the first there is, else a new one.
	async first() {
		const asked = new URL(location).searchParams.get("stream");
		const all = listOf(await call("GET", "api/v1/streams"));
		const found = all.find((s) => s.id === asked);
		if (asked && !found)
			toast("The stream of this address has ended.");
		return (found ?? all[0] ?? await this.create()).id;
	}

	create() {
		return call("POST", "api/v1/streams", {json: {}});
	}

	async #menu() {
		try {
			const all = listOf(await call("GET", "api/v1/streams"));
			const now = this.app.control.stream;
			menu(this.button, [
				...all.map((s) => ({label: s.name || s.id, note: s.state, checked: s.id === now?.id, icon: "view", onpick: () => this.app.go(s.id)})),
				null,
				{label: "New stream", icon: "add", onpick: async () => this.app.go((await this.create()).id)},
				{label: "Rename this one", icon: "more", onpick: () => this.#rename()},
				{label: "End this one", icon: "trash", onpick: () => this.#end(now)},
			]);
		} catch (e) {
			oops(e);
		}
	}

	#rename() {
		const now = this.app.control.stream;
		const field = h("input", {type: "text", value: now.name, maxLength: 80, label: "Name of the stream", onkeydown: (e) => {
			if (e.key === "Enter")
				field.blur();
			else if (e.key === "Escape")
				field.value = now.name, field.blur();
		}, onblur: async () => {
			field.replaceWith(this.button);
			this.button.focus();
			if (field.value.trim() && field.value !== now.name)
				await call("PATCH", this.app.control.path, {json: {name: field.value.trim()}}).catch(oops);
		}});
		this.button.replaceWith(field);
		field.select();
		field.focus();
	}

	#end(stream) {
		toast(`End ${stream.name || stream.id} for everybody?`, {ms: 10000, action: {label: "End it", onpick: async () => {
			try {
				await call("DELETE", `api/v1/streams/${seg(stream.id)}`);
			} catch (e) {
				oops(e);
			}
		}}});
	}
}
