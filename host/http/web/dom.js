// dom.js - makes elements; data only ever becomes text and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

// h("button.primary", {onclick, label}, "text", node, [nodes]): an element. A property that is null
// or false is left out; `label` is its name for people who cannot see it. What is clicked is no
// submit button; what is typed is not corrected. Without properties, the children follow at once.
export function h(tag, props, ...children) {
	if (props && props.constructor !== Object)
		return h(tag, null, props, ...children);
	const [name, ...classes] = tag.split(".");
	const el = document.createElement(name);
	if (classes.length)
		el.className = classes.join(" ");
	if (name === "button" && props?.onclick)
		el.type = "button";
	if (name === "input" || name === "textarea")
		Object.assign(el, {spellcheck: false, autocomplete: "off"});
	for (const [key, value] of Object.entries(props ?? {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (key === "label")
			el.setAttribute("aria-label", value);
		else if (key.startsWith("on"))
			el.addEventListener(key.slice(2), value);
		else if (key in el && !key.startsWith("aria") && key !== "list" && key !== "popover")
			el[key] = value;
		else
			el.setAttribute(key, value === true ? "" : value);
	}
	el.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
	return el;
}

const paths = {
	add: "M12 5v14M5 12h14",
	camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
	screen: "M3 5h18v12H3zM8 21h8M12 17v4",
	file: "M6 3h8l4 4v14H6zM14 3v5h4",
	link: "M10 14a4 4 0 0 0 6 0l3-3a4.2 4.2 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4.2 4.2 0 0 0 6 6l1-1",
	none: "M12 3v3M12 18v3M3 12h3M18 12h3M6 6l2 2M16 16l2 2M18 6l-2 2M8 16l-2 2",
	record: "M12 18a6 6 0 1 0 0-12 6 6 0 0 0 0 12z",
	full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
	window: "M4 5h10M4 5v14h16v-9M15 4h5v5M20 4l-8 8",
	help: "M9.2 9.3a3 3 0 1 1 4.4 2.8c-1.1.6-1.6 1.2-1.6 2.4M12 18v.3",
	gear: "M4 7h9M17 7h3M4 12h3M11 12h9M4 17h10M18 17h2M15 5v4M9 10v4M16 15v4",
	log: "M5 6h14M5 11h14M5 16h8",
	more: "M6 12h.01M12 12h.01M18 12h.01",
	reset: "M5 5v5h5M5.5 10A7.5 7.5 0 1 1 5 14.5",
	trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
	up: "M6 15l6-6 6 6",
	down: "M6 9l6 6 6-6",
	left: "M15 6l-6 6 6 6",
	right: "M9 6l6 6-6 6",
	dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
	swap: "M4 9h14l-4-4M20 15H6l4 4",
	solo: "M12 4l2.4 5 5.6.7-4.1 3.8 1.1 5.5-5-2.8-5 2.8 1.1-5.5L4 9.7 9.6 9z",
	copy: "M9 9h10v11H9zM6 15H5V4h10v2",
	save: "M5 4h11l3 3v13H5zM8 4v5h7V4M8 20v-6h8v6",
	load: "M12 3v12M7 10l5 5 5-5M5 20h14",
	upload: "M12 16V4M7 9l5-5 5 5M5 20h14",
	close: "M6 6l12 12M18 6L6 18",
	view: "M4 5h16v14H4zM12 5v14",
};

export function icon(name) {
	const svg = document.createElementNS(SVG, "svg");
	svg.setAttribute("viewBox", "0 0 24 24");
	svg.setAttribute("class", `icon i-${name}`);
	svg.setAttribute("aria-hidden", "true");
	const path = document.createElementNS(SVG, "path");
	path.setAttribute("d", paths[name]);
	svg.append(path);
	return svg;
}

// A button with a picture; `label` is its name for people who cannot see it, and its tooltip.
export function tool(name, label, onclick, cls = "") {
	return h(`button.tool${cls && "." + cls}`, {title: label, label: label, onclick}, icon(name));
}

let count = 0;
export const unique = (prefix) => `${prefix}-${++count}`;

// A small panel beside `anchor`, closed by a click elsewhere and by Escape.
export function popover(anchor, content, {wide = false, onclose = null} = {}) {
	const box = h(`div.popover${wide ? ".wide" : ""}`, {popover: "auto"}, content);
	document.body.append(box);
	box.addEventListener("toggle", (e) => {
		if (e.newState === "closed") {
			box.remove();
			anchor.setAttribute("aria-expanded", "false");
			onclose?.();
			if (document.activeElement === document.body)
				anchor.focus();
		}
	});
	box.showPopover();
	anchor.setAttribute("aria-expanded", "true");
	const at = anchor.getBoundingClientRect(), size = box.getBoundingClientRect();
	const x = Math.max(8, Math.min(at.left, innerWidth - size.width - 8));
	const below = at.bottom + 6 + size.height < innerHeight - 8;
	const y = below ? at.bottom + 6 : Math.max(8, at.top - 6 - size.height);
	box.style.left = `${x}px`;
	box.style.top = `${y}px`;
	box.querySelector("[autofocus], input, button, select, textarea")?.focus();
	return {close: () => box.hidePopover(), box};
}

// A list of choices: [{label, icon, onpick, disabled, note, checked}]; null draws a line.
export function menu(anchor, items) {
	const buttons = items.map((item) => item ? h("button.item", {
		role: "menuitem", disabled: item.disabled, "aria-current": item.checked ? "true" : null,
		onclick: () => { at.close(); item.onpick(); },
	}, item.icon ? icon(item.icon) : null, h("span", item.label), item.note ? h("small", item.note) : null)
		: h("hr"));
	const list = h("div.menu", {role: "menu", onkeydown: (e) => {
		const step = {ArrowDown: 1, ArrowUp: -1}[e.key];
		if (!step)
			return;
		e.preventDefault();
		const live = buttons.filter((b) => b.tagName === "BUTTON" && !b.disabled);
		live[(live.indexOf(document.activeElement) + step + live.length) % live.length]?.focus();
	}}, buttons);
	const at = popover(anchor, list);
	return at;
}

// A word at the bottom of the screen for a few seconds. Returns what takes it away.
export function toast(text, {kind = "info", ms = 5000, action = null} = {}) {
	const gone = () => el.remove();
	const el = h(`div.toast.${kind}`, h("span", text),
		action ? h("button", {onclick: () => { gone(); action.onpick(); }}, action.label) : null,
		tool("close", "Close", gone));
	document.getElementById("toasts").append(el);
	if (ms)
		setTimeout(gone, ms);
	return gone;
}

export const oops = (error) => toast(error.message, {kind: "error"});

export const bytes = (n) => n > 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n > 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.ceil(n / 1e3)} KB`;

export const words = (name) => name.replace(/_/g, " ").replace(/^./, (c) => c.toUpperCase());

// What is kept in this browser; a browser that keeps nothing is fine.
export const kept = {
	get(key, other = null) {
		try {
			return JSON.parse(localStorage.getItem(`scope.${key}`)) ?? other;
		} catch {
			return other;
		}
	},
	set(key, value) {
		try {
			localStorage.setItem(`scope.${key}`, JSON.stringify(value));
		} catch { /* private windows: it holds until the page is closed */ }
	},
};
