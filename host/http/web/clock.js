// clock.js - the server's clock, read off this one: what makes the age of a picture true.

export class Clock {
	#samples = [];

	// An answer {t, us} to a question sent at t (performance.now()).
	answer(t, us, now = performance.now()) {
		this.#samples.push({trip: now - t, offset: us - (t + now) / 2 * 1000});
		if (this.#samples.length > 16)
			this.#samples.shift();
	}

	get known() {
		return this.#samples.length > 0;
	}

	// Half the fastest round trip is the error that is left, ms.
	get error() {
		return this.known ? Math.min(...this.#samples.map((s) => s.trip)) / 2 : Infinity;
	}

	// Microseconds of the server's clock at `t`.
	at(t = performance.now()) {
		const best = this.#samples.reduce((a, b) => (b.trip < a.trip ? b : a));
		return Math.round(t * 1000 + best.offset);
	}
}
