// packet.js - the 16 bytes before each coded frame on a media WebSocket, and codec names.

export const CODEC = {vp8: 1, h264: 2, jpeg: 3, opus: 4};

export function pack(codec, key, durationUs, timeUs, size) {
	const bytes = new Uint8Array(16 + size);
	const head = new DataView(bytes.buffer);
	head.setUint8(0, codec);
	head.setUint8(1, key ? 1 : 0);
	head.setUint32(4, durationUs, true);
	head.setBigInt64(8, BigInt(timeUs), true);
	return bytes;
}

export function unpack(buffer) {
	const head = new DataView(buffer);
	return {
		codec: head.getUint8(0),
		key: (head.getUint8(1) & 1) === 1,
		duration: head.getUint32(4, true),
		time: Number(head.getBigInt64(8, true)),
		data: new Uint8Array(buffer, 16),
	};
}

// "avc1.42e01f" of the sequence parameter set in an H.264 byte stream, or null without one.
export function h264Name(data) {
	for (let i = 0; i + 6 < data.length; i++) {
		if (data[i] === 0 && data[i + 1] === 0 && data[i + 2] === 1 && (data[i + 3] & 31) === 7)
			return "avc1." + [4, 5, 6].map((k) => data[i + k].toString(16).padStart(2, "0")).join("");
	}
	return null;
}
