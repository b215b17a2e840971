// latency.mjs URL PUBLISH_KEY PLAYBACK_ID [--way ws|rtc] [--codec vp8|h264|jpeg] [--seconds N] [--size N] [--fps N]
//
// Headless Chromium publishes a canvas whose pixels tell when they were drawn, and watches the stream: what is
// measured is the time from drawing a picture to having it decoded again, and how far off its colours are. Over WebSocket with WebCodecs both ways, or
// by WHIP and WHEP. Prints one JSON line; exits with 1 when fewer than 30 pictures came back. TOOLS has playwright-core.
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';

const { chromium } = createRequire(`${process.env.TOOLS}/x.js`)('playwright-core');
const [url, key, playback, ...rest] = process.argv.slice(2);
const options = { way: 'ws', codec: 'vp8', seconds: 10, size: 512, fps: 30 };
for (let i = 0; i < rest.length; i += 2) {
    const name = rest[i].slice(2);
    options[name] = typeof options[name] === 'number' ? Number(rest[i + 1]) : rest[i + 1];
}

// All of this runs in the page.
async function measure({ url, key, playback, way, codec, seconds, size, fps }) {
    const BITS = 32, ACROSS = 16, SIDE = size / ACROSS;
    const PATCHES = [[200, 30, 30], [40, 180, 60], [30, 60, 200], [150, 110, 60], [128, 128, 128], [235, 225, 40], [20, 20, 20], [240, 240, 240]];
    const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
    const g = canvas.getContext('2d');
    const seen = { sent: 0, shown: 0, keys_wanted: 0, unreadable: 0, bytes: 0, formats: [], ended: null };
    const ages = [], arrivals = [];
    let error = 0; // of the patches, levels, all in all
    let from = null; // a second after the first picture; what comes before is not counted: everything is being loaded

    // 24 bits of time in tenths of a millisecond, and 8 that check them; black and white squares in the upper rows.
    const check = t => (t ^ (t >> 8) ^ (t >> 16) ^ 0x5a) & 255;
    function draw() {
        const n = Math.round(performance.now() / 33) % size, t = Math.round(performance.now() * 10) & 0xffffff;
        const word = t * 256 + check(t);
        g.fillStyle = `hsl(${n % 360} 60% 50%)`;
        g.fillRect(0, 0, size, size);
        for (let i = 0; i < 12; i++) {
            g.fillStyle = `hsl(${(n + 30 * i) % 360} 70% ${30 + 3 * i}%)`;
            g.fillRect((n * (1 + i % 3) + 97 * i) % size, 4 * SIDE + (i * (size - 4 * SIDE)) / 12, size / 5, size / 14);
        }
        PATCHES.forEach(([r, gr, b], i) => {
            g.fillStyle = `rgb(${r} ${gr} ${b})`;
            g.fillRect(2 * i * SIDE, 2 * SIDE, 2 * SIDE, 2 * SIDE);
        });
        for (let i = 0; i < BITS; i++) {
            g.fillStyle = Math.floor(word / 2 ** i) % 2 ? '#fff' : '#000';
            g.fillRect((i % ACROSS) * SIDE, Math.floor(i / ACROSS) * SIDE, SIDE, SIDE);
        }
    }
    const small = new OffscreenCanvas(ACROSS, 4), reader = small.getContext('2d', { willReadFrequently: true });
    reader.imageSmoothingEnabled = false;
    function read(picture, now, w) {
        const cell = w / ACROSS;
        reader.drawImage(picture, 0, 0, w, 4 * cell, 0, 0, ACROSS, 4);
        const px = reader.getImageData(0, 0, ACROSS, 4).data;
        let t = 0, sum = 0;
        for (let i = 0; i < BITS; i++)
            if (px[4 * i + 1] > 128) { if (i < 8) sum |= 1 << i; else t |= 1 << (i - 8); }
        seen.shown++;
        if (check(t) !== sum) { seen.unreadable++; return; }
        from ??= now + 1000;
        if (now < from) return;
        ages.push(((Math.round(now * 10) - t) & 0xffffff) / 10);
        arrivals.push(now);
        PATCHES.forEach((rgb, i) => rgb.forEach((v, c) => {
            for (const x of [2 * i, 2 * i + 1])
                for (const y of [2, 3]) error += Math.abs(px[4 * (ACROSS * y + x) + c] - v) / (12 * PATCHES.length);
        }));
    }
    function every(ms, fn) { // steady, without drift
        let next = performance.now();
        const step = () => { fn(); next = Math.max(next + ms, performance.now()); timer = setTimeout(step, next - performance.now()); };
        let timer = setTimeout(step, 0);
        return () => clearTimeout(timer);
    }
    const closers = [];

    // ---- WebSocket: a header of 16 bytes, then what WebCodecs makes (host/http/README.md)
    const CODECS = { vp8: 1, h264: 2, jpeg: 3 };
    const socket = path => Object.assign(new WebSocket(url.replace('http', 'ws') + path), { binaryType: 'arraybuffer' });
    const opened = ws => new Promise((yes, no) => { ws.onopen = yes; ws.onerror = () => no(new Error(`cannot open ${ws.url}`)); });
    async function publishSocket() {
        const ws = socket(`/live/${key}/publish`), coded = codec === 'jpeg' ? 'vp8' : codec;
        let wanted = true, offset = null, told = '';
        ws.onmessage = m => {
            const say = JSON.parse(m.data);
            if (say.type === 'keyframe') { wanted = true; seen.keys_wanted++; }
            if (say.type === 'clock') offset = say.us - 500 * (say.t + performance.now());
            if (say.type === 'replaced' || say.type === 'error') seen.ended = JSON.stringify(say);
        };
        await opened(ws);
        ws.send(JSON.stringify({ type: 'clock', t: performance.now() }));
        const encoder = new VideoEncoder({
            output: (chunk, { decoderConfig }) => {
                const say = decoderConfig && JSON.stringify({ type: 'format', ...decoderConfig, description: undefined });
                if (say && say !== told) ws.send(told = say);
                const b = new ArrayBuffer(16 + chunk.byteLength), head = new DataView(b);
                head.setUint8(0, CODECS[coded]);
                head.setUint8(1, chunk.type === 'key' ? 1 : 0);
                head.setUint32(4, 1e6 / fps, true);
                head.setBigInt64(8, offset === null ? 0n : BigInt(Math.round(chunk.timestamp + offset)), true);
                chunk.copyTo(new Uint8Array(b, 16));
                ws.send(b);
                seen.sent++;
            },
            error: e => { seen.ended = String(e); },
        });
        encoder.configure({ codec: coded === 'vp8' ? 'vp8' : 'avc1.42E01F', width: size, height: size, bitrate: 1.5e6,
            framerate: fps, latencyMode: 'realtime', ...(coded === 'h264' && { avc: { format: 'annexb' } }) });
        closers.push(every(1000 / fps, () => {
            draw();
            if (encoder.encodeQueueSize > 1 || ws.bufferedAmount > 100000) return;
            const frame = new VideoFrame(canvas, { timestamp: performance.now() * 1000 });
            encoder.encode(frame, { keyFrame: wanted });
            wanted = false;
            frame.close();
        }), () => ws.close());
    }
    async function watchSocket() {
        const ws = socket(`/live/${playback}/view?codec=${codec}`);
        let decoder = null;
        const fresh = colorSpace => {
            if (decoder && decoder.state !== 'closed') decoder.close();
            decoder = new VideoDecoder({
                output: f => { read(f, performance.now(), f.displayWidth); f.close(); },
                error: e => { seen.ended = String(e); },
            });
            decoder.configure({ codec: codec === 'vp8' ? 'vp8' : 'avc1.42E01F', optimizeForLatency: true, colorSpace });
        };
        ws.onmessage = async m => {
            if (typeof m.data === 'string') {
                const say = JSON.parse(m.data);
                if (say.type !== 'format') return;
                seen.formats.push(`${say.codec} ${say.w}x${say.h}`);
                if (codec !== 'jpeg') fresh(say.colorSpace);
                return;
            }
            const head = new DataView(m.data), data = new Uint8Array(m.data, 16);
            seen.bytes += data.length;
            if (codec === 'jpeg') {
                const picture = await createImageBitmap(new Blob([data], { type: 'image/jpeg' }));
                read(picture, performance.now(), picture.width);
                picture.close();
            } else {
                decoder.decode(new EncodedVideoChunk({ type: head.getUint8(1) & 1 ? 'key' : 'delta',
                    timestamp: Number(head.getBigInt64(8, true)), data }));
            }
        };
        await opened(ws);
        closers.push(() => ws.close());
    }

    // ---- WebRTC: one POST of a whole offer each way
    async function offer(pc, path) {
        await pc.setLocalDescription(await pc.createOffer());
        await new Promise(done => {
            const look = () => pc.iceGatheringState === 'complete' && done();
            pc.onicegatheringstatechange = look;
            setTimeout(done, 2000);
            look();
        });
        const answer = await fetch(url + path, { method: 'POST', headers: { 'Content-Type': 'application/sdp' },
            body: pc.localDescription.sdp });
        if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
        await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
        const where = new URL(answer.headers.get('Location'), url);
        closers.push(() => { fetch(where, { method: 'DELETE' }); pc.close(); });
    }
    const prefer = (transceiver, kind) => {
        const all = kind.getCapabilities('video').codecs, mime = codec === 'h264' ? 'video/H264' : 'video/VP8';
        transceiver.setCodecPreferences([...all.filter(c => c.mimeType === mime), ...all.filter(c => /rtx/.test(c.mimeType))]);
    };
    async function publishRtc() {
        const pc = new RTCPeerConnection();
        closers.push(every(1000 / fps, () => { draw(); seen.sent++; }));
        const [track] = canvas.captureStream(fps).getVideoTracks();
        const transceiver = pc.addTransceiver(track, { direction: 'sendonly' });
        prefer(transceiver, RTCRtpSender);
        await offer(pc, `/live/${key}/whip`);
        const parameters = transceiver.sender.getParameters();
        for (const e of parameters.encodings) e.maxBitrate = 1.5e6;
        await transceiver.sender.setParameters(parameters);
    }
    async function watchRtc() {
        const pc = new RTCPeerConnection();
        const transceiver = pc.addTransceiver('video', { direction: 'recvonly' });
        prefer(transceiver, RTCRtpReceiver);
        transceiver.receiver.jitterBufferTarget = 0;
        const video = Object.assign(document.createElement('video'), { muted: true, autoplay: true });
        document.body.append(video);
        pc.ontrack = e => { video.srcObject = new MediaStream([e.track]); };
        const next = () => {
            read(video, performance.now(), video.videoWidth);
            video.requestVideoFrameCallback(next);
        };
        video.requestVideoFrameCallback(next);
        await offer(pc, `/live/${playback}/whep`);
        closers.push(async () => {
            const report = [...(await pc.getStats()).values()].find(s => s.type === 'inbound-rtp');
            if (report) Object.assign(seen, { freezes: report.freezeCount, lost: report.packetsLost });
        });
    }

    if (way === 'ws') { await publishSocket(); await watchSocket(); }
    else { await publishRtc(); await watchRtc(); }
    const patience = performance.now() + 60000; // for 30 pictures, on a machine that has other things to do
    while (!seen.ended && performance.now() < (ages.length < 30 ? patience : from + seconds * 1000))
        await new Promise(r => setTimeout(r, 50));
    for (const close of closers.reverse()) await close();
    ages.sort((a, b) => a - b);
    const at = p => ages.length ? ages[Math.min(ages.length - 1, Math.floor(p * ages.length))] : null;
    const span = arrivals.length > 1 ? (arrivals.at(-1) - arrivals[0]) / 1000 : 0;
    const gaps = arrivals.slice(1).map((t, i) => t - arrivals[i]);
    return { way, codec, size, pictures: ages.length, fps: span ? +((arrivals.length - 1) / span).toFixed(1) : 0,
        colour_error: ages.length ? +(error / ages.length).toFixed(2) : null, p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), longest_gap_ms: gaps.length ? +Math.max(...gaps).toFixed(0) : null, ...seen };
}

const profile = mkdtempSync(`${process.env.TMP || tmpdir()}/chromium-`);
const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--allow-loopback-in-peer-connection',
        '--autoplay-policy=no-user-gesture-required'],
});
let failed = true;
try {
    const page = await browser.newPage();
    await page.goto(`${url}/health`);
    await page.evaluate(() => { document.body.textContent = ''; });
    const result = await page.evaluate(measure, { url, key, playback, ...options });
    console.log(JSON.stringify(result));
    failed = result.pictures < 30;
} catch (e) {
    console.log(JSON.stringify({ error: String(e) }));
} finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
