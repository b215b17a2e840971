// control.js - the control connection of one stream: values out, what is in force and happens in.
import {call, seg, socketUrl} from "./api.js";
import {Clock} from "./clock.js";
import {Lasting} from "./socket.js";

const frame = (fn) => document.hidden ? setTimeout(fn, 16) : requestAnimationFrame(fn);

// Events: "connection" {up}, and each message of the server by its type: "state", "values",
// "refused", "progress", "stats", "log", "ended".
export class Control extends EventTarget {
	clock = new Clock();
	stream = null;
	up = false;
	#socket;
	#n = 0;
	#queued = new Map(); // "link/key" -> {link, values, reload, keys}: not yet sent
	#sent = new Map(); // n -> {link, keys}
	#newest = new Map(); // "link/field" -> n of the last message that set it; 0 while queued
	#due = false;
	#timer = 0;

	constructor(id) {
		super();
		this.path = `api/v1/streams/${seg(id)}`;
		this.#socket = new Lasting(() => socketUrl(`${this.path}/control`), {
			up: () => {
				this.up = true;
				for (let i = 0; i < 5; i++)
					setTimeout(() => this.#ask(), i * 60);
				this.#emit("connection", {up: true});
				this.#flush();
			},
			down: () => this.#lost(),
			again: () => this.#again(),
			text: (m) => this.#message(m),
		});
		this.#timer = setInterval(() => this.#ask(), 2000);
	}

	close() {
		clearInterval(this.#timer);
		this.#socket.close();
	}

	// Set values of a link with the next animation frame. What is set again before that, under the
	// same key, is sent once. The keys of `values` are pending until the server has answered.
	set(link, values, {key = Object.keys(values)[0], reload = false} = {}) {
		const at = `${link}/${key}`;
		const old = this.#queued.get(at);
		this.#queued.set(at, {link, values: {...old?.values, ...values}, reload: reload || old?.reload});
		for (const name of Object.keys(values))
			this.#newest.set(`${link}/${name}`, 0);
		if (!this.#due) {
			this.#due = true;
			frame(() => this.#flush());
		}
	}

	pending(link, name) {
		return this.#newest.has(`${link}/${name}`);
	}

	send(message) {
		this.#socket.say(message);
	}

	#emit(type, detail) {
		this.dispatchEvent(new CustomEvent(type, {detail}));
	}

	#flush() {
		this.#due = false;
		if (!this.up)
			return; // they wait for the connection
		for (const {link, values, reload} of this.#queued.values()) {
			const n = ++this.#n;
			const keys = Object.keys(values).map((name) => `${link}/${name}`);
			keys.forEach((k) => this.#newest.set(k, n));
			this.#sent.set(n, {link, keys, values});
			this.send({type: "set", link, values, n, ...(reload ? {reload} : {})});
		}
		this.#queued.clear();
	}

	// What a message with this n was about; its fields are pending no longer, but for those that
	// have been set again since.
	#settle(n) {
		const was = this.#sent.get(n);
		this.#sent.delete(n);
		for (const k of was?.keys ?? []) {
			if (this.#newest.get(k) === n)
				this.#newest.delete(k);
		}
		return was;
	}

	#lost() {
		[...this.#sent.keys()].forEach((n) => this.#settle(n));
		if (this.up)
			this.#emit("connection", {up: this.up = false});
	}

	// Is it the connection that is gone, or the stream?
	async #again() {
		try {
			await call("GET", this.path);
		} catch (e) {
			if (e.status !== 404)
				return true;
			this.close();
			this.#emit("ended", {});
			return false;
		}
		return true;
	}

	#ask() {
		this.send({type: "clock", t: performance.now()});
	}

	#message(m) {
		if (m.type === "clock") {
			this.clock.answer(m.t, m.us);
			return;
		}
		if (m.type === "state")
			this.stream = m.stream;
		else if (m.type === "stats" && this.stream)
			this.stream.stats = m.stats;
		else if (m.type === "values" && this.stream?.chain[m.link])
			this.stream.chain[m.link].values = m.values;
		if (m.type === "ended")
			this.close();
		if ((m.type === "values" || m.type === "refused") && m.n)
			m.asked = this.#settle(m.n)?.values;
		else if (m.type === "values" && m.by === "load") // what was set before is in it, or lost with the old one
			[...this.#sent].forEach(([n, was]) => was.link === m.link && this.#settle(n));
		this.#emit(m.type, m);
	}
}
