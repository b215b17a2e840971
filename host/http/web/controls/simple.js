// controls/simple.js - a switch, a choice that keeps its type, a line or a box of text.
import {h, unique, words} from "../dom.js";

export function toggle(schema, env) {
	let value = false;
	const name = unique("name");
	const button = h("button.switch", {role: "switch", id: env.id, "aria-labelledby": name, onclick: () => {
		show(!value);
		env.set(value);
	}}, h("i"));
	const show = (v) => {
		value = v;
		button.setAttribute("aria-checked", String(v));
	};
	return {
		element: h("div.pair", h("label", {id: name, htmlFor: env.id}, env.label), button), show,
		// A pad turns it over, a fader sets it.
		midi: (v, pad) => {
			const on = pad ? (v > 0 ? !value : value) : v >= 0.5;
			if (on !== value) {
				show(on);
				env.set(on);
			}
		},
	};
}

const FEW = 26; // characters of all choices together that fit beside a label

export function select(schema, env) {
	const choices = schema.enum;
	const label = (c) => typeof c === "string" ? words(c).toLowerCase() || "none" : String(c);
	const pick = (i) => env.set(choices[i]);
	const midi = (v) => {
		const i = Math.min(choices.length - 1, Math.floor(v * choices.length));
		show(choices[i]);
		pick(i);
	};
	let show;
	if (choices.length <= 4 && choices.map(label).join("").length + 2 * choices.length <= FEW) {
		const group = unique("choice");
		const radios = choices.map((c, i) => h("input", {type: "radio", name: group, id: `${group}-${i}`, onchange: () => pick(i)}));
		show = (v) => radios.forEach((r, i) => { r.checked = choices[i] === v; });
		return {
			element: h("div.pair", {role: "radiogroup", label: env.label}, h("span.label", env.label),
				h("span.segments", choices.map((c, i) => [radios[i], h("label", {htmlFor: `${group}-${i}`}, label(c))]))), show, midi,
		};
	}
	const box = h("select", {id: env.id, onchange: () => pick(box.selectedIndex)}, choices.map((c) => h("option", label(c))));
	show = (v) => { box.selectedIndex = choices.indexOf(v); };
	return {element: h("div.pair", h("label", {htmlFor: env.id}, env.label), box), show, midi};
}

// Text is sent with Enter, and when it is left; until then it is marked as not sent.
export function text(schema, env) {
	const many = schema.ui?.multiline || env.multiline;
	let value = "";
	const box = h(many ? "textarea" : "input", {id: env.id, rows: many ? 2 : null, type: many ? null : "text",
		placeholder: env.placeholder ?? null, label: env.plain ? env.label : null,
		oninput: () => { mark(); grow(); },
		onchange: () => send(),
		onkeydown: (e) => {
			if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
				e.preventDefault();
				send();
			} else if (e.key === "Escape") {
				show(value);
				box.blur();
			}
		},
	});
	const mark = () => box.classList.toggle("unsent", box.value !== value);
	const grow = () => {
		if (many && box.scrollHeight > box.clientHeight)
			box.style.height = `${Math.min(220, box.scrollHeight + 2)}px`;
	};
	const send = () => {
		if (box.value !== value)
			env.set(value = box.value);
		mark();
	};
	const show = (v) => {
		value = v;
		box.value = v;
		mark();
		requestAnimationFrame(grow);
	};
	return {
		element: env.plain ? box : h(many ? "div.stack" : "div.pair.text", h("label", {htmlFor: env.id}, env.label), box), show,
		get busy() { return document.activeElement === box && box.value !== value; },
	};
}
