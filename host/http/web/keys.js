// keys.js - what can be done with a key, and the overlay that says so.
import {h} from "./dom.js";

// Keys do nothing while a person is typing, or works a control that wants the key itself.
function taken(e) {
	const el = e.target;
	if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open], :popover-open"))
		return true;
	if (el.matches("textarea, select, input:not([type=range], [type=radio], [type=checkbox])"))
		return true;
	return e.key === " " && el.matches("button, input:not([type=range]), summary, a");
}

export function listen(actions) {
	const byKey = new Map(Object.values(actions).filter((a) => a.key).map((a) => [a.key, a]));
	addEventListener("keydown", (e) => {
		const action = !taken(e) && !e.repeat && byKey.get(e.key.length === 1 ? e.key.toLowerCase() : e.key);
		if (action) {
			e.preventDefault();
			action.run();
		}
	});
}

export function help(actions) {
	const rows = [...Object.values(actions).filter((a) => a.key && !/^[2-9]$/.test(a.key)).map((a) => [a.shown ?? (a.key === " " ? "Space" : a.key.toUpperCase()), a.label]),
		["Dbl-click", "The picture: fullscreen; a control: reset"], ["Enter", "Send a text; Shift+Enter begins a new line"], ["Esc", "Leave an entry as it was"],
		["↑ ↓", "A step; with Shift: ten"], ["Alt ← →", "Move a plugin in the chain"]];
	const dialog = h("dialog.help", {"aria-labelledby": "help-title", onclose: () => dialog.remove(), onclick: (e) => e.target === dialog && dialog.close()},
		h("h2", {id: "help-title"}, "Keys"), h("dl", rows.map(([key, text]) => h("div", h("dt", key.split(" ").map((k) => h("kbd", k))), h("dd", text)))),
		h("form", {method: "dialog"}, h("button.primary", {autofocus: true}, "Close")));
	document.body.append(dialog);
	dialog.showModal();
}
