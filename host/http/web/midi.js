// midi.js - Web MIDI: move a knob to learn it; knobs, faders and pads then move what they were given.
import {kept, toast, oops} from "./dom.js";

export class Midi {
	app;
	#bound = kept.get("midi", {}); // "cc 0 7" or "note 0 60" -> key
	#learning = null;
	#access = null;
	#last = new Map();

	constructor(app) {
		this.app = app;
		if (Object.keys(this.#bound).length)
			this.#open().catch(() => {});
	}

	get bindings() {
		return Object.entries(this.#bound);
	}

	// "CC 7" for what moves this key, or null.
	about(key) {
		const found = this.bindings.find(([, k]) => k === key)?.[0];
		return found ? `${found.startsWith("cc") ? "CC" : "note"} ${found.split(" ")[2]}` : null;
	}

	async #open() {
		if (this.#access)
			return;
		if (!navigator.requestMIDIAccess)
			throw new Error("This browser has no MIDI, or gives it to https:// and localhost alone.");
		this.#access = await navigator.requestMIDIAccess();
		const listen = () => this.#access.inputs.forEach((input) => { input.onmidimessage = (e) => this.#message(e.data); });
		this.#access.onstatechange = listen;
		listen();
	}

	async learn(key, label) {
		try {
			await this.#open();
		} catch (e) {
			oops(e);
			return;
		}
		this.#learning?.gone();
		const none = this.#access.inputs.size ? "" : " No device is connected yet.";
		const gone = toast(`Move a knob or hit a pad for ${label}.${none}`, {ms: 0, action: {label: "Cancel", onpick: () => { this.#learning = null; }}});
		this.#learning = {key, label, gone};
	}

	forget(key) {
		for (const [message, k] of this.bindings) {
			if (k === key)
				delete this.#bound[message];
		}
		kept.set("midi", this.#bound);
		this.app.marks();
	}

	#message([status, number, value]) {
		const kind = status >> 4;
		const note = kind === 9 || kind === 8;
		if (!note && kind !== 11)
			return;
		const message = `${note ? "note" : "cc"} ${status & 15} ${number}`;
		const at = kind === 8 ? 0 : value / 127;
		if (this.#learning && at > 0) {
			const {key, label, gone} = this.#learning;
			this.#learning = null;
			gone();
			this.forget(key);
			this.#bound[message] = key;
			kept.set("midi", this.#bound);
			toast(`${label} follows ${this.about(key)}.`);
			this.app.marks();
			return;
		}
		const key = this.#bound[message];
		if (!key)
			return;
		const action = this.app.actions[key.replace(/^action\//, "")];
		if (key.startsWith("action/")) {
			const was = this.#last.get(message) ?? 0;
			if (at >= 0.5 && was < 0.5)
				action?.run();
		} else {
			const target = this.app.targets.get(key);
			const range = target?.control.range;
			if (range) {
				const v = range.snap(range.low + at * (range.high - range.low));
				this.app.lfo.moved(key, v);
				target.drive(v);
			} else
				target?.control.midi?.(at, note);
		}
		this.#last.set(message, at);
	}
}
