// main.js - puts the page together: one stream, its connection, and the parts that show it.
import {h, tool, menu, toast, kept} from "./dom.js";
import {call, listOf} from "./api.js";
import {Control} from "./control.js";
import {Stage, VIEWS} from "./stage.js";
import {Source, KINDS} from "./source.js";
import {Chain} from "./chain.js";
import {Outputs} from "./outputs.js";
import {Streams} from "./streams.js";
import {Strip} from "./strip.js";
import {Logs} from "./logs.js";
import {Lfo} from "./lfo.js";
import {Midi} from "./midi.js";
import {settings, openSettings, change} from "./settings.js";
import * as keys from "./keys.js";

const $ = (id) => document.getElementById(id);
const alone = new URL(location).searchParams.get("view") === "alone"; // the picture and nothing else

const app = {
	settings, plugins: [], control: null, targets: new Map(), actions: {},
	warn: (text) => toast(text, {kind: "error"}),
	log: (line) => app.logs.add(line),
	marks: () => app.chain.marks(),

	setSetting(key, value) {
		change(key, value);
		if (key !== "size")
			app.source.republish();
		if (key === "transport" || key === "viewCodec")
			app.stage.watch(app.control.stream);
	},

	async loadPlugins(again = false) {
		if (again)
			await call("POST", "api/v1/plugins/rescan");
		app.plugins = listOf(await call("GET", "api/v1/plugins"));
	},

	outputUrl() {
		const u = new URL(location);
		u.searchParams.set("stream", app.control.stream.id);
		u.searchParams.set("view", "alone");
		return u.href;
	},

	recording(on, label) {
		document.body.classList.toggle("recording", on);
		recordButton.title = on ? "Stop recording (R)" : "Record (R)";
		recordButton.setAttribute("aria-label", recordButton.title);
		recordButton.setAttribute("aria-pressed", String(on));
		recordTime.textContent = on ? label : "";
	},

	// Show this stream; the address says so, and a reload comes back to it.
	go(id) {
		const u = new URL(location);
		u.searchParams.set("stream", id);
		history.replaceState(null, "", u);
		app.source.release();
		app.control?.close();
		app.strip.clear();
		app.stage.watch(null);
		app.stage.progress(null);
		app.control = new Control(id);
		listenTo(app.control);
	},
};
window.scope = app; // for tests

function listenTo(control) {
	let watched = null, resume = !alone;
	setTimeout(() => { resume = false; }, 8000);
	const on = (type, fn) => control.addEventListener(type, (e) => control === app.control && fn(e.detail));
	on("connection", ({up}) => {
		document.body.classList.toggle("away", !up);
		if (!up)
			setState("away", "The server does not answer; trying again.");
	});
	on("state", ({stream}) => {
		if (watched !== stream.playback_id) {
			watched = stream.playback_id;
			app.stage.watch(stream);
		}
		showState(stream);
		if (resume && !stream.source) { // not while the page before this one is still being noticed gone
			resume = false;
			app.source.resume();
		}
	});
	on("values", (m) => app.chain.values(m));
	on("refused", (m) => app.chain.refused(m));
	on("progress", ({done, phase, link}) => app.stage.progress(done >= 1 ? null : done, [app.chain.panels[link]?.plugin.name, phase].filter(Boolean).join(": ")));
	on("stats", ({stats}) => app.strip.stats(stats));
	on("log", ({line}) => app.logs.add(line));
	on("ended", async () => {
		toast("The stream has ended.");
		history.replaceState(null, "", location.pathname);
		app.go(await app.streams.first());
	});
}

function showState(stream) {
	app.streams.state(stream);
	app.chain.state(stream);
	app.outputs.state(stream);
	app.source.state(stream);
	app.stage.setFit(stream.fit ?? "crop");
	document.title = `${stream.name || "scope"} · scope`;
	if (!["loading", "reloading"].includes(stream.state))
		app.stage.progress(null);
	else if (app.stage.bar.hidden)
		app.stage.progress(0, "Loading");
	setState(stream.state, stream.notice ?? "");
	welcome(stream);
}

function setState(state, notice) {
	const pill = $("state");
	pill.textContent = state;
	pill.dataset.state = state;
	app.stage.say(notice, state === "failed" ? "error" : "warn");
	if (state === "failed")
		app.stage.notice.append(" ", h("button", {onclick: () => app.control.send({type: "retry"})}, "Try again"));
}

// Before there is a picture: the two things that make one.
function welcome(stream) {
	const rows = [];
	const idle = stream.state !== "online" && !app.stage.shows;
	if (!stream.source && !app.source.media && (idle || !stream.chain.length) && !alone) {
		rows.push({title: "What should it see?", items: Object.entries(KINDS).filter(([k]) => k !== "none").map(([kind, k]) => ({
			label: k.label, icon: k.icon, onpick: () => app.source.pick(kind),
		}))});
	}
	if (!stream.chain.length && !alone) {
		rows.push({title: "What should become of it?", items: app.plugins.filter((p) => !p.fault).map((p) => ({
			label: p.name || p.id, note: p.schema?.description, onpick: () => app.chain.add(p.id),
		}))});
	}
	app.stage.welcome(rows.length ? rows : null);
}

// ---- the bar -----------------------------------------------------------------------------------

const recordTime = h("span.time");
const recordButton = tool("record", "Record (R)", () => app.outputs.toggleRecord(), "record");
const viewButton = tool("view", "View (V)", (e) => menu(e.currentTarget, Object.entries(VIEWS).map(([view, label]) => ({
	label, checked: app.stage.view === view, onpick: () => app.stage.setView(view),
}))));
const logButton = tool("log", "Log (L)", () => app.logs.toggle());

function bar() {
	recordButton.append(recordTime);
	$("actions").append(recordButton, viewButton,
		tool("full", "Fullscreen (F)", () => app.stage.fullscreen()),
		tool("window", "The picture in a window of its own (O)", () => app.actions.window.run()),
		logButton, tool("gear", "Settings", (e) => openSettings(e.currentTarget, app)),
		tool("help", "Keys (?)", () => keys.help(app.actions)));
}

const TABS = {source: "Source", controls: "Controls", outputs: "Outputs"};

function showTab(name) {
	if (name === "source" && innerWidth > 900) // a tab of narrow screens
		name = "controls";
	document.body.dataset.tab = name;
	kept.set("tab", name);
	for (const b of $("tabs").children)
		b.setAttribute("aria-selected", String(b.dataset.tab === name));
	$("controls").hidden = name === "outputs";
	$("outputs").hidden = name !== "outputs";
	if (name === "outputs")
		app.outputs.open();
}

function actions() {
	const {stage} = app;
	Object.assign(app.actions, {
		full: {key: "f", label: "Fullscreen", run: () => stage.fullscreen()},
		view: {key: "v", label: "Next view: beside, wipe, source", run: () => stage.nextView()},
		record: {key: "r", label: "Record, and stop", run: () => app.outputs.toggleRecord()},
		freeze: {key: " ", label: "Freeze the picture here", run: () => stage.freeze()},
		black: {key: "b", label: "Blackout here", run: () => stage.blackout()},
		mirror: {key: "m", label: "Mirror the picture here", run: () => stage.setMirror(!stage.mirrored)},
		window: {key: "o", label: "The picture in a window of its own", run: () => window.open(app.outputUrl(), "scope-output", "popup")},
		tap: {key: "t", label: "Tap the tempo of the LFOs", run: () => toast(`${app.lfo.tap()} bpm`, {ms: 1200})},
		log: {key: "l", label: "Log", run: () => app.logs.toggle()},
		find: {key: "/", label: "Find a control", run: () => { showTab("controls"); app.chain.panel?.search.focus(); }},
		help: {key: "?", label: "This help", run: () => keys.help(app.actions)},
	});
	for (let i = 1; i <= 9; i++)
		app.actions[`preset${i}`] = {key: String(i), shown: "1 … 9", label: "Presets", run: () => app.chain.panel?.presets.use(i - 1)};
	keys.listen(app.actions);
}

async function start() {
	document.body.classList.toggle("alone", alone);
	app.stage = new Stage(app, $("stage"));
	app.strip = new Strip(app, $("strip"));
	app.logs = new Logs($("log"), (n) => { logButton.dataset.unread = n || ""; });
	app.lfo = new Lfo(app);
	app.midi = new Midi(app);
	app.streams = new Streams(app, $("streams"));
	app.source = new Source(app, $("source"));
	app.chain = new Chain(app, $("controls"), $("inputs"));
	app.outputs = new Outputs(app, $("outputs"));
	$("tabs").append(...Object.entries(TABS).map(([name, label]) => h("button", {role: "tab", "data-tab": name, onclick: () => showTab(name)}, label)));
	showTab(kept.get("tab", "controls"));
	bar();
	actions();
	app.stage.addEventListener("first", () => app.control.stream && welcome(app.control.stream));
	app.stage.addEventListener("view", () => { viewButton.title = `View: ${VIEWS[app.stage.view]} (V)`; });
	await app.loadPlugins();
	app.go(await app.streams.first());
	app.logs.load();
}

start().catch((e) => {
	setState("away", e.message);
	setTimeout(() => location.reload(), 3000);
});
