// controls/prompts.js - prompts with their weights: write, mix, solo, and how a change is blended over.
import {h, tool, unique} from "../dom.js";
import {text} from "./simple.js";
import {number} from "./number.js";
import {growing, freshItem} from "./list.js";

const keysOf = (schema) => {
	const props = Object.entries(schema.items?.properties ?? {});
	return {text: props.find(([, s]) => s.type === "string")?.[0], weight: props.find(([k, s]) => k === "weight" && s.type === "number")?.[0], count: props.length};
};

export const isPrompts = (schema) => {
	const k = keysOf(schema);
	return schema.items?.type === "object" && k.text === "text" && k.weight !== undefined && k.count === 2;
};

export function prompts(schema, env) {
	const weights = schema.items.properties.weight;
	let before = null; // the weights to go back to after a solo
	const share = (value, i) => {
		const sum = value.reduce((a, p) => a + p.weight, 0);
		return sum ? `${Math.round(value[i].weight / sum * 100)} %` : "";
	};
	const shares = [];
	const tell = () => shares.forEach((el, i) => { el.textContent = g.value.length > 1 && g.value[i] ? share(g.value, i) : ""; });
	const g = growing(schema, {
		set: (v) => { env.set(v); tell(); },
		wrap: () => h("div.prompts"),
		add: () => ({...freshItem(schema.items), text: "", weight: 1}),
		make: (i, set) => {
			let item = {};
			const words = text({ui: {multiline: true}}, {label: `Prompt ${i + 1}`, plain: true, id: unique("prompt"), placeholder: "What the picture should show",
				set: (t) => set(item = {...item, text: t})});
			const weight = number(weights, {label: `Weight of prompt ${i + 1}`, plain: true, id: unique("weight"), soft: weights.maximum > 10 ? [0, 2] : null,
				set: (w) => { before = null; set(item = {...item, weight: w}); }});
			shares[i] = h("small.share");
			shares.length = Math.max(i + 1, g?.value.length ?? 0);
			return {
				element: words.element,
				frame: (at) => h("div.prompt", {role: "group", label: `Prompt ${at + 1}`}, words.element, h("div.mix", null,
					weight.element, shares[at], g.value.length > 1 ? tool("solo", `Only prompt ${at + 1}`, () => solo(at)) : null,
					g.value.length > 1 ? tool("close", `Remove prompt ${at + 1}`, () => g.remove(at)) : null)),
				show: (v) => { item = v; words.busy || words.show(v.text); weight.busy || weight.show(v.weight); },
				get busy() { return words.busy || weight.busy; },
			};
		},
	});
	const solo = (at) => {
		const alone = g.value.every((p, i) => (p.weight > 0) === (i === at));
		const back = alone && before?.length === g.value.length ? before : null;
		if (!alone)
			before = g.value.map((p) => p.weight);
		g.change(g.value.map((p, i) => ({...p, weight: back ? back[i] : i === at ? (p.weight || 1) : 0})));
		tell();
	};
	return {
		element: h("div.stack.list", {role: "group", label: env.label}, h("div.head", h("span.label", env.label), g.more), g.body),
		show: (v) => { g.show(v); tell(); },
		// While a prompt is being written, nobody else's change may take it away.
		get busy() { return g.busy; },
	};
}
