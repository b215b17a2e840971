// daydream_browser.mjs WHIP_URL [FRAMES]: Daydream's own browser package, in headless Chromium.
//
// A page of another origin publishes the fake camera with createBroadcast, and plays what the answer says is to be
// played (Livepeer-Playback-Url) with createPlayer. Prints one JSON line; exits with 1 when fewer than FRAMES (30)
// pictures were shown, or a colour of the fake camera's picture did not come back inverted. TOOLS has the packages.
import { createRequire } from 'node:module';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';

const require = createRequire(`${process.env.TOOLS}/x.js`);
const { chromium } = require('playwright-core');
const [whip, frames = '30'] = process.argv.slice(2);

// All of this runs in the page.
async function talk({ whip, frames }) {
    const { createBroadcast, createPlayer } = await import('/daydream.js');
    const states = { broadcast: [], player: [] };
    const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 }, audio: true });
    const began = performance.now();
    const broadcast = createBroadcast({ whipUrl: whip, stream: camera, video: { bitrate: 1_000_000 } });
    broadcast.on('stateChange', s => states.broadcast.push(s));
    await broadcast.connect();
    const live = performance.now();
    const player = createPlayer(broadcast.whepUrl);
    const video = Object.assign(document.createElement('video'), { muted: true, autoplay: true });
    document.body.append(video);
    player.on('stateChange', s => { states.player.push(s); if (s === 'playing') player.attachTo(video); });
    await player.connect();
    player.attachTo(video);
    let shown = 0, first = null;
    const next = () => { first ??= performance.now(); shown++; video.requestVideoFrameCallback(next); };
    video.requestVideoFrameCallback(next);
    const end = performance.now() + 30000;
    while (shown < frames && performance.now() < end) await new Promise(r => setTimeout(r, 50));
    // The fake camera's green, turned over by the stream.
    const g = new OffscreenCanvas(video.videoWidth || 1, video.videoHeight || 1).getContext('2d');
    g.drawImage(video, 0, 0);
    const pixel = [...g.getImageData(g.canvas.width * 0.9, g.canvas.height * 0.5, 1, 1).data].slice(0, 3);
    const source = Object.assign(document.createElement('video'), { muted: true, srcObject: camera });
    await source.play();
    g.drawImage(source, 0, 0, g.canvas.width, g.canvas.height);
    const sent = [...g.getImageData(g.canvas.width * 0.9, g.canvas.height * 0.5, 1, 1).data].slice(0, 3);
    const result = { shown, whep: broadcast.whepUrl, size: `${video.videoWidth}x${video.videoHeight}`, pixel, sent,
        live_ms: Math.round(live - began), first_ms: first && Math.round(first - live), states,
        tracks: player.stream?.getTracks().map(t => t.kind) };
    await player.stop();
    await broadcast.stop();
    return result;
}

const module = readFileSync(require.resolve('@daydreamlive/browser').replace(/index\.cjs$/, 'index.js'));
const origin = createServer((request, answer) => {
    const js = request.url.endsWith('.js');
    answer.setHeader('Content-Type', js ? 'text/javascript' : 'text/html');
    answer.end(js ? module : '<!doctype html><title>test</title>');
});
await new Promise(done => origin.listen(0, '127.0.0.1', done));

const profile = mkdtempSync(`${process.env.TMP || tmpdir()}/chromium-`);
const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream',
        '--use-fake-ui-for-media-stream', '--allow-loopback-in-peer-connection',
        '--autoplay-policy=no-user-gesture-required'],
});
let failed = true;
try {
    const page = await browser.newPage();
    await page.goto(`http://localhost:${origin.address().port}/`);
    const result = await page.evaluate(talk, { whip, frames: Number(frames) });
    console.log(JSON.stringify(result));
    failed = result.shown < Number(frames) || result.pixel.some((v, i) => Math.abs(v - (255 - result.sent[i])) > 24);
} catch (e) {
    console.log(JSON.stringify({ error: String(e) }));
} finally {
    await browser.close();
    origin.close();
    rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
