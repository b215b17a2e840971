// controls/list.js - lists and nested objects, made of the controls of what they hold.
import {h, icon, tool, unique, words} from "../dom.js";
import {controlFor, inner} from "./index.js";
import {entry} from "./number.js";

const fresh = (schema) => schema.default !== undefined ? structuredClone(schema.default)
	: schema.type === "object" ? Object.fromEntries(inner(schema.properties).map(([k, s]) => [k, fresh(s)]))
	: schema.enum ? schema.enum[0]
	: {boolean: false, integer: Math.max(0, schema.minimum ?? 0), number: Math.max(0, schema.minimum ?? 0), string: "", array: []}[schema.type];
export const freshItem = fresh;

// A list whose elements are made by make(index, set) -> {element, show, busy}; the rest is the same for all.
export function growing(schema, {set, make, wrap, add, empty}) {
	let value = [], parts = [];
	const body = wrap();
	const change = (next) => {
		value = next;
		draw();
		set(value);
	};
	const draw = () => {
		parts = value.map((v, i) => {
			const part = make(i, (item) => { value = value.with(i, item); set(value); });
			part.show(v);
			return part;
		});
		body.replaceChildren(...parts.map((p, i) => p.frame ? p.frame(i) : p.element), ...(value.length || !empty ? [] : [empty]));
		more.disabled = value.length >= (schema.maxItems ?? 65536);
	};
	const more = h("button.add", {onclick: () => {
		change([...value, add(value)]);
		const at = parts.at(-1).element;
		(at.matches("input, textarea") ? at : at.querySelector("input, textarea, select, button"))?.focus();
	}}, icon("add"), "Add");
	const show = (v) => {
		const same = v.length === value.length && parts.length === v.length;
		value = structuredClone(v);
		if (same)
			parts.forEach((p, i) => p.show(v[i]));
		else
			draw();
	};
	return {
		body, more, show,
		get value() { return value; },
		change,
		remove: (i) => change(value.toSpliced(i, 1)),
		move: (i, to) => change(value.toSpliced(i, 1).toSpliced(to, 0, value[i])),
		get busy() { return parts.some((p) => p.busy); },
		get least() { return value.length <= (schema.minItems ?? 0); },
	};
}

export function list(schema, env) {
	const items = schema.items;
	const numbers = ["integer", "number"].includes(items.type) && !items.enum;
	const title = (i) => `${env.label} ${i + 1}`;
	const g = growing(schema, {
		set: env.set,
		wrap: () => h(numbers ? "div.chips" : "div.cards-list"),
		empty: h("span.none", "none"),
		add: (value) => numbers && value.length ? nextNumber(value, items) : fresh(items),
		make: (i, set) => {
			const part = numbers ? entry(items, {label: title(i), set})
				: items.type === "object" ? object(items, {...env, label: title(i), set, bare: true, parent: env})
				: controlFor(items, {...env, label: title(i), set, id: unique("item"), plain: true, parent: env});
			part.frame = (at) => h(numbers ? "span.chip" : "div.item", {role: "group", label: title(at)}, part.element, h("span.tools", null,
				numbers ? null : [tool("up", `Move ${title(at)} up`, () => at && g.move(at, at - 1)),
					tool("down", `Move ${title(at)} down`, () => at + 1 < g.value.length && g.move(at, at + 1))],
				tool("close", `Remove ${title(at)}`, () => g.least || g.remove(at))));
			return part;
		},
	});
	return {
		element: h("div.stack.list", {role: "group", label: env.label}, h("div.head", h("span.label", env.label), g.more), g.body),
		show: g.show, get busy() { return g.busy; },
	};
}

// Goes on the way the list does: 999, 749 -> 499; 0, 16 -> 32.
function nextNumber(value, {minimum = -Infinity, maximum = Infinity, type}) {
	const last = value.at(-1), gap = value.length > 1 ? last - value.at(-2) : type === "integer" ? 1 : 0.1;
	return Math.min(maximum, Math.max(minimum, last + gap));
}

export function object(schema, env) {
	let value = {};
	const parts = inner(schema.properties).map(([name, s]) => {
		const control = controlFor(s, {parent: env, name, label: s.ui?.label ?? s.title ?? words(name), id: unique("part"), entryId: unique("entry"),
			set: (v) => { value = {...value, [name]: v}; see(); env.set(value); }});
		return {name, control, needs: Object.entries(s.ui?.visible_if ?? {}), row: h("div.part", {title: s.description ?? ""}, control.element)};
	});
	const see = () => parts.forEach((p) => { p.row.hidden = !p.needs.every(([k, v]) => value[k] === v); });
	const rows = parts.map((p) => p.row);
	return {
		element: env.bare ? h("div.object", rows) : h("details.nested", h("summary", env.label), h("div.object", rows)),
		show: (v) => {
			value = structuredClone(v);
			parts.forEach((p) => p.control.busy || p.control.show(v[p.name]));
			see();
		},
		get busy() { return parts.some((p) => p.control.busy); },
	};
}
