// controls/asset.js - a file of the server: its path, a list to pick from, and a place to drop new ones.
import {h, icon, tool, popover, oops, bytes} from "../dom.js";
import {call, seg, listOf, openUrl} from "../api.js";

const KINDS = {
	image: {what: "picture", endings: /\.(png|jpe?g|webp|gif|bmp)$/i, accept: "image/*"},
	video: {what: "video or picture", endings: /\.(mp4|mkv|webm|mov|avi|y4m|png|jpe?g|webp)$/i, accept: "video/*,image/*"},
	audio: {what: "sound", endings: /\.(wav|mp3|ogg|flac|opus|m4a)$/i, accept: "audio/*"},
	lora: {what: "LoRA", endings: /\.safetensors$/i, accept: ".safetensors"},
	file: {what: "file", endings: /./, accept: ""},
};

// Which files a text field is about, or null when it is about none.
export function assetKind(name, schema, parent) {
	const component = schema.ui?.component ?? parent?.component;
	if (KINDS[component])
		return component;
	return /(^|_)(path|file)$/.test(name) ? (/lora/.test(name) ? "lora" : "file") : null;
}

async function upload(file) {
	return call("PUT", `api/v1/assets/${seg(file.name)}`, {body: file, type: "application/octet-stream"});
}

// The button that opens the list; picked(path).
export function assetPicker(kind, picked) {
	const k = KINDS[kind];
	const button = tool("file", `Pick a ${k.what}`, open);
	async function open() {
		const list = h("div.assets", {role: "listbox", label: `Files: ${k.what}`}, h("p", "…"));
		const input = h("input", {type: "file", accept: k.accept, hidden: true, onchange: () => take(input.files)});
		const drop = h("div.drop", {
			ondragover: (e) => { e.preventDefault(); drop.classList.add("over"); },
			ondragleave: () => drop.classList.remove("over"),
			ondrop: (e) => { e.preventDefault(); drop.classList.remove("over"); take(e.dataTransfer.files); },
		}, icon("upload"), h("button", {onclick: () => input.click()}, "Upload"), h("span", ` or drop a ${k.what} here`), input);
		const at = popover(button, [list, drop], {wide: true});
		const use = (a) => { at.close(); picked(a.path); };
		const take = async (files) => {
			try {
				drop.classList.add("busy");
				use(await upload(files[0]));
			} catch (e) {
				oops(e);
			} finally {
				drop.classList.remove("busy");
			}
		};
		try {
			const all = listOf(await call("GET", "api/v1/assets")).filter((a) => k.endings.test(a.name));
			list.replaceChildren(...(all.length ? all.map((a) => h("div.asset", null,
				h("button", {role: "option", onclick: () => use(a)},
					KINDS.image.endings.test(a.name) ? h("img", {src: openUrl(`api/v1/assets/${seg(a.name)}`), alt: "", loading: "lazy"}) : icon("file"),
					h("span", a.name), h("small", bytes(a.bytes))),
				tool("trash", `Delete ${a.name}`, async (e) => {
					const row = e.currentTarget.parentElement;
					await call("DELETE", `api/v1/assets/${seg(a.name)}`).then(() => row.remove(), oops);
				}))) : [h("p", `No ${k.what} is on the server yet.`)]));
		} catch (e) {
			list.replaceChildren(h("p.error", e.message));
		}
	}
	return button;
}

export function asset(schema, env) {
	let value = "";
	const kind = assetKind(env.name, schema, env.parent);
	const box = h("input", {type: "text", id: env.id, placeholder: "none",
		onchange: () => box.value !== value && env.set(value = box.value),
		onkeydown: (e) => e.key === "Enter" && box.dispatchEvent(new Event("change"))});
	const image = kind === "image" ? h("img.thumb", {alt: "", hidden: true, onerror: () => { image.hidden = true; }}) : null;
	const show = (v) => {
		value = v;
		box.value = v;
		box.scrollLeft = box.scrollWidth;
		if (image) {
			image.hidden = !/\/assets\/[^/]+$/.test(v);
			if (!image.hidden)
				image.src = openUrl(`api/v1/assets/${seg(v.split("/").at(-1))}`);
		}
	};
	const pick = (path) => { show(path); env.set(path); };
	return {
		element: h("div.pair.text", env.plain ? null : h("label", {htmlFor: env.id}, env.label), h("span.line", image, box, assetPicker(kind, pick))),
		show, get busy() { return document.activeElement === box && box.value !== value; },
	};
}
