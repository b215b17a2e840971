// logs.js - the log drawer: what the server and its plugins say, by level.
import {h, tool, kept} from "./dom.js";
import {call, listOf} from "./api.js";

const LEVELS = ["debug", "info", "warn", "error"];
const KEEP = 500;

export class Logs {
	unread = 0;
	#list = h("ol", {tabIndex: 0, label: "Lines"});
	#level = kept.get("log.level", "info");
	#last = 0;

	constructor(root, onunread) {
		this.root = root;
		this.onunread = onunread;
		const level = h("select", {label: "Least level", onchange: () => this.#filter(level.value)},
			LEVELS.map((l) => h("option", {selected: l === this.#level}, l)));
		root.append(h("header", h("h2", "Log"), level, h("span.spring"),
			tool("trash", "Clear", () => this.#list.replaceChildren()), tool("close", "Close the log", () => this.toggle(false))), this.#list);
		this.#filter(this.#level);
	}

	async load() {
		try {
			listOf(await call("GET", "api/v1/logs")).forEach((line) => this.add(line, false));
		} catch { /* the lines that come from now on are there all the same */ }
	}

	#filter(level) {
		this.#level = level;
		kept.set("log.level", level);
		this.#list.dataset.least = level;
	}

	add(line, fresh = true) {
		if (line.n && line.n <= this.#last)
			return;
		this.#last = line.n ?? this.#last;
		const {level} = line;
		const bottom = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 30;
		this.#list.append(h(`li.${level}`, h("time", line.time?.slice(11, 19) ?? ""), h("b", line.about), h("span", line.text)));
		while (this.#list.childElementCount > KEEP)
			this.#list.firstChild.remove();
		if (bottom)
			this.#list.scrollTop = this.#list.scrollHeight;
		if (fresh && this.root.hidden && (level === "warn" || level === "error"))
			this.onunread(++this.unread);
	}

	toggle(open = this.root.hidden) {
		this.root.hidden = !open;
		if (open) {
			this.onunread(this.unread = 0);
			this.#list.scrollTop = this.#list.scrollHeight;
		}
	}
}
