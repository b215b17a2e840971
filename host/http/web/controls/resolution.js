// controls/resolution.js - width and height as one control: entries, swap, and sizes people use.
import {h, tool} from "../dom.js";
import {entry} from "./number.js";

const SIZES = [[512, 512], [768, 512], [896, 512], [512, 896], [768, 768], [1024, 1024], [1280, 720], [384, 384], [256, 256]];

const fits = (v, s) => v >= (s.minimum ?? 1) && v <= (s.maximum ?? Infinity) && (v - (s.minimum ?? 0)) % (s.step ?? 1) === 0;

// schemas: {w, h}; env.set({w, h}) with those that changed.
export function resolution(schemas, env) {
	let value = {w: 0, h: 0};
	const set = (next) => {
		show({...value, ...next});
		env.set(next);
	};
	const w = entry(schemas.w, {label: "Width", set: (v) => set({w: v})});
	const hh = entry(schemas.h, {label: "Height", set: (v) => set({h: v})});
	const sizes = SIZES.filter(([x, y]) => fits(x, schemas.w) && fits(y, schemas.h));
	const pick = h("select", {label: "Usual sizes", onchange: () => {
		const [x, y] = sizes[pick.selectedIndex - 1];
		set({w: x, h: y});
	}}, h("option", {disabled: true}, "sizes"), sizes.map(([x, y]) => h("option", `${x} × ${y}`)));
	const show = (v) => {
		value = v;
		w.show(v.w);
		hh.show(v.h);
		pick.selectedIndex = 1 + sizes.findIndex(([x, y]) => x === v.w && y === v.h);
	};
	return {
		element: h("div.pair.resolution", {role: "group", label: env.label}, h("span.label", env.label), h("span.line", w.element, "×", hh.element,
			tool("swap", "Swap width and height", () => set({w: value.h, h: value.w})), pick)),
		show, get busy() { return w.busy || hh.busy; },
	};
}
