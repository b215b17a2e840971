// mask.js - a picture as the second input "mask", where a plugin of the chain can use one. The server
// does not tell what it holds: a small copy is kept here, for as long as the stream is the same.
import {h, icon, tool, kept} from "./dom.js";
import {call} from "./api.js";

const SIDE = 96; // pixels of the small copy at most

export class Mask {
	app;
	#stream = null; // its name and birth, since a server that starts again may give a name again

	constructor(app, root) {
		this.app = app;
		this.input = h("input", {type: "file", accept: "image/png,image/jpeg", hidden: true, onchange: () => {
			this.#put(this.input.files[0]);
			this.input.value = ""; // the same file can be picked again
		}});
		this.thumb = h("img.thumb", {alt: "The mask"});
		this.upload = icon("upload");
		this.button = h("button", {onclick: () => this.input.click(), label: "Choose a picture as the mask"}, "Choose");
		this.name = h("span");
		this.remove = tool("trash", "Remove the mask", () => this.#remove());
		this.error = h("p.error", {role: "alert", hidden: true});
		this.drop = h("div.drop", {
			ondragover: (e) => { e.preventDefault(); this.drop.classList.add("over"); },
			ondragleave: () => this.drop.classList.remove("over"),
			ondrop: (e) => { e.preventDefault(); this.drop.classList.remove("over"); this.#put(e.dataTransfer.files[0]); },
		}, this.upload, this.thumb, this.button, this.name, this.remove, this.input);
		this.element = h("section.mask", {label: "Mask", hidden: true}, h("h2", "Mask"), this.drop, this.error);
		root.append(this.element);
	}

	state(stream) {
		const fields = (id) => Object.keys(this.app.plugins.find((p) => p.id === id)?.schema?.properties ?? {});
		this.element.hidden = !stream.chain.some((l) => fields(l.plugin).some((n) => n.startsWith("mask")));
		const now = `${stream.id} ${stream.created_at}`;
		if (now !== this.#stream) {
			this.#stream = now;
			this.#fail("");
			const old = kept.get("mask");
			this.#show(old?.stream === now ? old : null);
		}
	}

	#show(mask) {
		this.drop.classList.toggle("has", Boolean(mask));
		this.thumb.hidden = this.remove.hidden = !mask;
		this.upload.toggleAttribute("hidden", Boolean(mask));
		this.thumb.src = mask?.small ?? "data:,";
		this.name.textContent = this.name.title = mask ? mask.name : "or drop a picture";
	}

	#fail(text) {
		this.error.textContent = text;
		this.error.hidden = !text;
	}

	// Ask the server; what it refuses is said here. Returns its status: 0 when it does not answer, or
	// the stream shown is another one by now.
	async #ask(...request) {
		const stream = this.#stream;
		this.#fail("");
		this.drop.classList.add("busy");
		try {
			await call(request[0], `${this.app.control.path}/inputs/mask`, request[1]);
			return stream === this.#stream ? 200 : 0;
		} catch (e) {
			this.#fail(e.message);
			return stream === this.#stream ? e.status : 0;
		} finally {
			this.drop.classList.remove("busy");
		}
	}

	// The server looks at what is in the file; its name and type decide nothing.
	async #put(file) {
		if (!file || await this.#ask("PUT", {body: file, type: file.type === "image/jpeg" ? file.type : "image/png"}) !== 200)
			return;
		const mask = {stream: this.#stream, name: file.name, small: await small(file).catch(() => "data:,")};
		kept.set("mask", mask);
		this.#show(mask);
	}

	async #remove() {
		if (![200, 400].includes(await this.#ask("DELETE"))) // 400: there is none, as somebody else saw to
			return;
		kept.set("mask", null);
		this.#show(null);
		this.button.focus();
	}
}

async function small(file) {
	const picture = await createImageBitmap(file);
	const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
	const canvas = h("canvas", {width: Math.max(1, picture.width * scale), height: Math.max(1, picture.height * scale)});
	canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
	picture.close();
	return canvas.toDataURL();
}
