// socket.js - a WebSocket that comes back by itself, later each time.

// calls: {text(message), binary(buffer), up(), down(), again()}; the last three may be left out.
// again() may answer false, or a promise of it: not again.
export class Lasting {
	#tries = 0;
	#socket = null;
	#closed = false;

	constructor(address, calls) {
		Object.assign(this, {address, calls});
		this.#open();
	}

	get ready() {
		return this.#socket.readyState === WebSocket.OPEN;
	}

	get waiting() {
		return this.#socket.bufferedAmount;
	}

	send(data) {
		if (this.ready)
			this.#socket.send(data);
	}

	say(message) {
		this.send(JSON.stringify(message));
	}

	close() {
		this.#closed = true;
		this.#socket.close();
	}

	#open() {
		const {calls} = this;
		const socket = this.#socket = new WebSocket(this.address());
		socket.binaryType = "arraybuffer";
		socket.onopen = () => {
			this.#tries = 0;
			calls.up?.();
		};
		socket.onmessage = (e) => this.#closed ? 0 : typeof e.data === "string" ? calls.text(JSON.parse(e.data)) : calls.binary?.(e.data);
		socket.onclose = async () => {
			if (this.#closed)
				return;
			calls.down?.();
			await new Promise((done) => setTimeout(done, Math.min(4000, 250 * 2 ** this.#tries++)));
			if (!this.#closed && await calls.again?.() !== false && !this.#closed)
				this.#open();
		};
	}
}
