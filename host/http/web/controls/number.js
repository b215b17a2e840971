// controls/number.js - a number: a fader with its label in it and an entry beside it; a seed has dice.
import {h, tool} from "../dom.js";

// The step of the schema, or one that divides the range finely enough and reads well.
export function stepOf({type, step, minimum, maximum}) {
	if (step)
		return step;
	if (type === "integer")
		return 1;
	const range = maximum - minimum;
	return isFinite(range) && range > 0 ? 10 ** Math.floor(Math.log10(range / 50)) : 0.01;
}

export const decimals = (step) => Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));

// "0.5", never "0.5000000001".
export const format = (value, step) => String(Number(value.toFixed(Math.max(decimals(step), 3))));

// The value of the step's grid next to v.
function snap(v, schema, step) {
	const base = schema.minimum ?? 0;
	const at = base + Math.round((v - base) / step) * step;
	const held = Math.min(schema.maximum ?? Infinity, Math.max(schema.minimum ?? -Infinity, at));
	return schema.type === "integer" ? Math.round(held) : Number(held.toFixed(decimals(step) + 2));
}

// The entry alone: typed values go out as they are, the server says what is wrong with them.
export function entry(schema, env) {
	const step = stepOf(schema);
	let value = schema.default ?? 0;
	const input = h("input.entry", {type: "text", inputMode: "decimal", role: "spinbutton", id: env.entryId ?? null,
		label: env.entryId ? null : env.label, "aria-valuemin": schema.minimum, "aria-valuemax": schema.maximum,
		onfocus: () => input.select(),
		onchange: () => {
			const typed = Number(input.value.replace(",", "."));
			if (input.value.trim() === "" || !isFinite(typed))
				show(value);
			else
				env.set(value = typed);
		},
		onkeydown: (e) => {
			const dir = {ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10}[e.key];
			if (e.key === "Escape")
				show(value), input.blur();
			if (!dir)
				return;
			e.preventDefault();
			const from = Number(input.value.replace(",", "."));
			show(snap((isFinite(from) ? from : value) + dir * step * (e.shiftKey ? 10 : 1), schema, step));
			env.set(value);
		},
	});
	const show = (v) => {
		value = v;
		input.value = format(v, step);
		input.setAttribute("aria-valuenow", v);
	};
	return {element: input, show, get busy() { return document.activeElement === input && input.value !== format(value, step); }};
}

export function number(schema, env) {
	const step = stepOf(schema);
	const [low, high] = env.soft ?? [schema.minimum, schema.maximum];
	const bounded = low !== undefined && high !== undefined && high - low <= 1e6;
	const box = entry(schema, {...env, entryId: bounded ? null : env.entryId, set: (v) => { bounded && paint(range.value = v); env.set(v); }});
	const unit = schema.ui?.unit ? h("small.unit", schema.ui.unit) : null;
	if (!bounded) {
		return {
			element: h("div.plain-number", env.plain ? null : h("label", {htmlFor: env.entryId}, env.label), box.element, unit),
			show: box.show, get busy() { return box.busy; },
		};
	}
	let dragging = false;
	const paint = (v) => fader.style.setProperty("--at", `${Math.max(0, Math.min(1, (v - low) / (high - low))) * 100}%`);
	const range = h("input", {type: "range", min: low, max: high, step, id: env.id, label: env.label,
		oninput: () => {
			const v = snap(Number(range.value), schema, step);
			paint(v);
			box.show(v);
			env.set(v);
		},
		onpointerdown: () => { dragging = true; addEventListener("pointerup", up); addEventListener("pointercancel", up); },
		ondblclick: () => env.reset?.(),
	});
	const up = () => {
		dragging = false;
		removeEventListener("pointerup", up);
		removeEventListener("pointercancel", up);
	};
	const fader = h("div.fader", range, env.plain ? null : h("span.name", {"aria-hidden": "true"}, env.label));
	if (low < 0 && high > 0)
		fader.style.setProperty("--zero", `${-low / (high - low) * 100}%`);
	const show = (v) => {
		range.value = v;
		paint(v);
		box.show(v);
	};
	return {
		element: h("div.number", fader, h("span.value", box.element, unit)),
		show,
		get busy() { return dragging || box.busy; },
		range: {low: schema.ui?.modulatable_min ?? low, high: schema.ui?.modulatable_max ?? high, snap: (v) => snap(v, schema, step)},
	};
}

export function seed(schema, env) {
	const box = entry(schema, env);
	const most = Math.min(schema.maximum ?? 2147483647, 2147483647), least = schema.minimum ?? 0;
	const roll = () => {
		const v = least + Math.floor(Math.random() * (most - least + 1));
		box.show(v);
		env.set(v);
	};
	return {
		element: h("div.plain-number", env.plain ? null : h("label", {htmlFor: env.entryId}, env.label), box.element, tool("dice", `Random ${env.label}`, roll)),
		show: box.show, get busy() { return box.busy; }, midi: (v) => v > 0.5 && roll(),
	};
}
