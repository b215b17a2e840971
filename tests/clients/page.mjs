// page.mjs - works the page of `scope serve` as a person does, in Chromium without a window.
//
// node page.mjs URL SHOTS STEPS...: STEPS are names from the end of this file; SHOTS is a folder for
// screenshots. The stream runs tests/abi/controls.c, whose picture tells what is in force. Fails with the
// first thing that is not as it should be, and with any error in the browser's console. The server's token,
// where it asks for one, is in TOKEN; PLAYWRIGHT is the module that drives the browser.
import {readFileSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
const {chromium} = await import(process.env.PLAYWRIGHT);

const [, , URL_, SHOTS, ...STEPS] = process.argv;
const WAIT = 30000;
const problems = [];
const allowed = []; // texts of console errors that a step brings about on purpose

function check(good, what) {
    if (!good)
        throw new Error(what);
}

async function until(what, test, ms = WAIT) {
    const end = Date.now() + ms;
    let last;
    while (Date.now() < end) {
        if (await test((v) => { last = v; return v; }))
            return;
        await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error(`not within ${ms / 1000} s: ${what}${last === undefined ? "" : ` (last: ${JSON.stringify(last)})`}`);
}

const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        "--allow-loopback-in-peer-connection"],
});

// A page in a profile of its own. Small pictures: the machine of a test has little to spare.
async function open({viewport = {width: 1440, height: 900}, address = "", settings = {}, touch = false} = {}) {
    const context = await browser.newContext({viewport, permissions: ["camera", "clipboard-write"], hasTouch: touch, acceptDownloads: true});
    await context.addInitScript((s) => {
        localStorage.setItem("scope.settings", JSON.stringify({size: "360p", ...s}));
        const inputs = new Map([["1", {onmidimessage: null}]]);
        navigator.requestMIDIAccess = async () => ({inputs, onstatechange: null});
        window.midi = (...data) => inputs.get("1").onmidimessage({data});
    }, settings);
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT);
    page.on("console", (m) => m.type() === "error" && !allowed.some((a) => m.text().includes(a)) && problems.push(m.text()));
    page.on("pageerror", (e) => problems.push(e.stack));
    await page.goto(URL_ + address);
    return page;
}

const frames = (page) => page.evaluate(() => scope.stage.frames);

async function received(page, n) {
    const from = await frames(page);
    await until(`${n} frames`, async (say) => say(await frames(page)) >= from + n);
}

// The brightness of a square of the board (tests/abi/controls.c) in the picture on the page.
const square = (page, i) => page.evaluate((at) => {
    const c = document.querySelector(".pane.result canvas");
    const x = (at % 8 + 0.5) * c.width / 8, y = (Math.floor(at / 8) + 0.5) * c.height / 4;
    return c.getContext("2d").getImageData(x, y, 1, 1).data[1];
}, i);

async function paints(page, i, level, what) {
    await until(`${what}: square ${i} at ${level}`, async (say) => Math.abs(say(await square(page, i)) - level) < 9);
}

const field = (page, name) => page.locator(`.field[data-name="${name}"]`);
const entry = (page, name) => field(page, name).getByRole("spinbutton");
const value = (page, name) => page.evaluate((n) => scope.control.stream.chain[0].values[n], name);
const shot = (page, name) => page.screenshot({path: `${SHOTS}/page-${name}.png`});

async function type(page, box, text) {
    await box.fill(text);
    await box.press("Enter");
}

// The camera, and the plugin where the stream has none yet.
async function camera(page) {
    const source = page.getByRole("tab", {name: "Source"});
    if (await source.isVisible())
        await source.click();
    await page.locator(".kinds button", {hasText: "Camera"}).click();
    if (await page.evaluate(() => scope.control.stream.chain.length === 0))
        await page.locator(".empty .card", {hasText: "Controls"}).click();
}

let page = null;
const start = async (options) => {
    page = await open(options);
    await until("a stream", () => page.evaluate(() => Boolean(scope.control?.stream)));
    return page;
};

// ---- the steps -----------------------------------------------------------------------------------

const steps = {
    async first() {
        await start();
        await until("the welcome", () => page.locator(".empty .card").first().isVisible());
        await shot(page, "welcome");
        await page.locator(".add-plugin").click();
        check(await page.locator(".plugin:disabled", {hasText: "not_elf"}).isVisible(), "a plugin that cannot run is not listed");
        check((await page.locator(".plugin:disabled", {hasText: "not_elf"}).innerText()).length > 20, "it does not say why");
        await page.keyboard.press("Escape");
        await page.locator(".empty .card", {hasText: "Camera"}).click();
        await page.locator(".empty .card", {hasText: "Controls"}).click();
        await received(page, 30);
        check(!await page.locator(".empty").isVisible(), "the welcome lies over the picture");
        const size = await page.evaluate(() => { const c = document.querySelector(".pane.result canvas"); return `${c.width} ${c.height}`; });
        check(size === "320 192", `the picture is ${size}`);
        await until("a true age", async (say) => { const a = say(await page.evaluate(() => scope.stage.age())); return a > 0 && a < 5000; });
        await until("numbers", async () => Number(await page.locator(".cell.fps dd").innerText()) > 0);
        check(new URL(page.url()).searchParams.get("stream"), "the address does not name the stream");
    },

    async numbers() {
        const fader = field(page, "amount").getByRole("slider");
        await fader.focus();
        await page.keyboard.press("End");
        await paints(page, 0, 250, "amount by key");
        const box = await fader.boundingBox();
        await page.mouse.move(box.x + box.width - 3, box.y + 10);
        await page.mouse.down();
        await page.mouse.move(box.x + box.width * 0.7, box.y + 10, {steps: 5});
        await page.mouse.move(box.x + box.width / 2, box.y + 10, {steps: 5});
        await paints(page, 0, 125, "amount while it is dragged");
        await page.mouse.up();
        await type(page, entry(page, "amount"), "0.2");
        await paints(page, 0, 50, "amount typed");
        await field(page, "amount").getByRole("button", {name: "Reset Amount"}).click();
        await paints(page, 0, 0, "amount reset");
        const sent = await page.evaluate(async () => {
            const {control} = scope, messages = [];
            control.send = (m) => { m.type === "set" && messages.push(m); Object.getPrototypeOf(control).send.call(control, m); };
            for (let i = 0; i <= 50; i++)
                scope.chain.panel.change({amount: i / 100});
            await new Promise((done) => setTimeout(done, 200));
            delete control.send;
            return messages.map((m) => m.values.amount);
        });
        check(sent.length === 1 && sent[0] === 0.5, `a frame's changes are sent as ${JSON.stringify(sent)}`);
        await paints(page, 0, 125, "the last of many");
        await entry(page, "count").focus();
        await page.keyboard.press("ArrowUp");
        await page.keyboard.press("ArrowUp");
        await paints(page, 1, 100, "count by steps");
        await type(page, entry(page, "count"), "3");
        await until("the refusal on its field", () => field(page, "count").locator(".error").isVisible());
        const said = await field(page, "count").locator(".error").innerText();
        check(/3/.test(said) && /2|4/.test(said), `the refusal says: ${said}`);
        check(await entry(page, "count").getAttribute("aria-invalid") === "true", "the field is not marked");
        await shot(page, "refused");
        await paints(page, 1, 100, "count refused");
        await type(page, entry(page, "count"), "6");
        await paints(page, 1, 150, "count right again");
        await until("the refusal goes", () => field(page, "count").locator(".error").isHidden());
        await type(page, entry(page, "free"), "77");
        await paints(page, 2, 77, "free");
        await type(page, entry(page, "seed"), "1000000000");
        await paints(page, 13, 100, "seed");
        await field(page, "seed").getByRole("button", {name: "Random"}).click();
        await until("a random seed", async () => await value(page, "seed") !== 1000000000);
        check(await field(page, "hidden").count() === 0, "a field without ui is shown");
    },

    async choices() {
        check(await field(page, "extra").isHidden(), "extra is shown though on is off");
        await field(page, "on").getByRole("switch").click();
        await paints(page, 3, 250, "on");
        await field(page, "extra").getByRole("slider").focus();
        await page.keyboard.press("End");
        await paints(page, 18, 200, "extra");
        await field(page, "power").getByText("8", {exact: true}).click();
        await paints(page, 4, 240, "power");
        check(await value(page, "power") === 8, "an integer of an enum is no integer any more");
        await field(page, "mode").getByRole("combobox").selectOption("all of it");
        await paints(page, 5, 180, "mode");
    },

    async texts() {
        const word = field(page, "word").getByRole("textbox");
        await word.fill("four");
        check(await word.evaluate((e) => e.classList.contains("unsent")), "what is not sent is not marked");
        check(await value(page, "word") === "", "a text is sent before Enter");
        await word.press("Enter");
        await paints(page, 6, 80, "word");
        const story = field(page, "story").getByRole("textbox");
        await story.fill("one");
        await story.press("Shift+Enter");
        await story.pressSequentially("two");
        await story.press("Enter");
        await paints(page, 7, 70, "story");
        check(await value(page, "story") === "one\ntwo", "lines were lost");
        await type(page, field(page, "data_path").getByRole("textbox"), "abcdefghij");
        await paints(page, 15, 40, "data_path");
    },

    async prompts() {
        const all = field(page, "prompts");
        await type(page, all.getByRole("textbox").first(), "abc");
        await paints(page, 8, 80, "the first prompt");
        await all.getByRole("button", {name: "Add"}).click();
        await page.keyboard.type("de");
        await page.keyboard.press("Enter");
        await paints(page, 8, 140, "the second prompt");
        await all.getByRole("button", {name: "Only prompt 1"}).click();
        await paints(page, 8, 120, "solo");
        await all.getByRole("button", {name: "Only prompt 1"}).click();
        await paints(page, 8, 140, "solo taken back");
        await all.getByRole("slider").nth(1).focus();
        await page.keyboard.press("End");
        await paints(page, 8, 160, "a weight");
        check(/33 %/.test(await all.innerText()), "the shares are not told");
        await all.getByRole("button", {name: "Remove prompt 2"}).click();
        await paints(page, 8, 80, "a prompt removed");
        await type(page, entry(page, "transition_steps"), "60");
        await paints(page, 9, 60, "transition");
    },

    async lists() {
        const numbers = field(page, "numbers");
        await numbers.getByRole("button", {name: "Add"}).click();
        await type(page, numbers.getByRole("spinbutton").first(), "500");
        await paints(page, 10, 100, "a number in a list");
        await numbers.getByRole("button", {name: "Add"}).click();
        await paints(page, 10, 200, "two numbers");
        check(JSON.stringify(await value(page, "numbers")) === "[500,501]", "numbers did not go on as they began");
        await numbers.getByRole("button", {name: "Remove Numbers 2"}).click();
        await paints(page, 10, 100, "a number removed");
        await field(page, "words").getByRole("button", {name: "Add"}).click();
        await page.keyboard.type("hello");
        await page.keyboard.press("Enter");
        await paints(page, 11, 100, "words");
        const things = field(page, "things");
        await things.getByRole("button", {name: "Add"}).click();
        await paints(page, 12, 25, "a thing as it comes");
        await type(page, things.getByRole("textbox"), "ab");
        await paints(page, 12, 125, "its name");
        await things.getByRole("slider").focus();
        await page.keyboard.press("End");
        await paints(page, 12, 150, "its level");
        await page.locator("summary", {hasText: "More"}).click();
        const loras = field(page, "loras");
        await loras.getByRole("button", {name: "Add"}).click();
        await type(page, loras.getByRole("textbox"), "abcd");
        await paints(page, 16, 25, "a LoRA");
        await loras.getByRole("slider").focus();
        await page.keyboard.press("End");
        await paints(page, 16, 40, "its scale");
        const place = field(page, "place");
        await place.locator("summary").click();
        await place.getByRole("slider").focus();
        await page.keyboard.press("End");
        await paints(page, 17, 100, "a number in an object");
        await place.getByRole("switch").click();
        await paints(page, 17, 200, "a switch in an object");
        await shot(page, "controls");
    },

    async files() {
        const png = `${tmpdir()}/page ${process.pid}.png`;
        writeFileSync(png, Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64"));
        const pick = field(page, "picture").getByRole("button", {name: "Pick a picture"});
        await pick.click();
        const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", {name: "Upload"}).click()]);
        await chooser.setFiles(png);
        await until("the uploaded picture in force", async (say) => /page \d+\.png$/.test(say(await value(page, "picture"))));
        await paints(page, 14, Math.min(255, 4 * (await value(page, "picture")).length), "picture");
        await type(page, field(page, "picture").getByRole("textbox"), "x");
        await paints(page, 14, 4, "picture by hand");
        await pick.click();
        await page.getByRole("option").filter({hasText: ".png"}).click();
        await until("the picture picked again", async () => /\.png$/.test(await value(page, "picture")));
    },

    async size() {
        const size = field(page, "width");
        const is = (w, h) => until(`${w} x ${h}`, (say) => page.evaluate(() => { const c = document.querySelector(".pane.result canvas"); return [c.width, c.height]; }).then((s) => say(s).join() === `${w},${h}`));
        await size.getByRole("button", {name: "Swap"}).click();
        await is(192, 320);
        await size.getByRole("combobox").selectOption("384 × 384");
        await is(384, 384);
        await type(page, size.getByRole("spinbutton").first(), "320");
        await type(page, size.getByRole("spinbutton").nth(1), "192");
        await is(320, 192);
    },

    async reload() {
        await paints(page, 19, 50, "quality as loaded");
        await type(page, entry(page, "count"), "6");
        await paints(page, 1, 150, "count");
        await type(page, entry(page, "quality"), "4");
        const bar = page.locator(".reload");
        await until("the question", () => bar.isVisible());
        await shot(page, "reload");
        await bar.getByRole("button", {name: "Leave it"}).click();
        check(await bar.isHidden(), "the question stays");
        check(await entry(page, "quality").inputValue() === "1", "quality is not what it was");
        await type(page, entry(page, "quality"), "4");
        await paints(page, 19, 50, "quality before the answer");
        await bar.getByRole("button", {name: "Load anew"}).click();
        await paints(page, 19, 200, "quality loaded anew");
        check(await bar.isHidden(), "the question is asked again");
        await paints(page, 1, 150, "what was set is kept");
        await type(page, entry(page, "odd"), "7"); // the plugin's init() refuses it
        await bar.getByRole("button", {name: "Load anew"}).click();
        await until("the reason on its field", () => field(page, "odd").getByText("too odd").isVisible());
        await shot(page, "failed");
        await type(page, entry(page, "odd"), "2");
        if (await bar.isVisible())
            await bar.getByRole("button", {name: "Load anew"}).click();
        await received(page, 5);
        await until("no more notice", () => page.locator(".notice").isHidden());
    },

    async presets() {
        await page.getByRole("button", {name: "More on presets"}).click();
        await page.getByRole("menuitem", {name: "Reset everything"}).click();
        await paints(page, 7, 0, "reset");
        if (await page.locator(".reload").isVisible())
            await page.locator(".reload").getByRole("button", {name: "Leave it"}).click();
        await type(page, entry(page, "amount"), "0.5");
        await paints(page, 0, 125, "amount");
        await page.getByRole("button", {name: "Save as a preset"}).click();
        await page.getByRole("textbox", {name: "Name of the preset"}).fill("half");
        await page.keyboard.press("Enter");
        await until("its button", () => page.locator(".presets .names button", {hasText: "half"}).isVisible());
        await type(page, entry(page, "amount"), "1");
        await paints(page, 0, 250, "amount");
        await page.evaluate(() => document.activeElement.blur());
        await page.keyboard.press("1");
        await paints(page, 0, 125, "the preset by its key");
        await page.getByRole("button", {name: "More on presets"}).click();
        const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", {name: "Export"}).click()]);
        check(file.suggestedFilename() === "org.test.controls.json", `exported as ${file.suggestedFilename()}`);
        const kept = `${tmpdir()}/values.${process.pid}.json`;
        await file.saveAs(kept);
        await type(page, entry(page, "amount"), "0.1");
        await paints(page, 0, 25, "amount");
        await page.getByRole("button", {name: "More on presets"}).click();
        const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("menuitem", {name: "Import"}).click()]);
        await chooser.setFiles(kept);
        await paints(page, 0, 125, "imported");
        await page.getByRole("button", {name: "More on presets"}).click();
        await page.getByRole("menuitem", {name: "Delete half"}).click();
        await until("it is gone", async () => await page.locator(".presets .names button").count() === 0);
    },

    async others() {
        // another client moves a control; so do a knob and an oscillator
        const id = await page.evaluate(() => scope.control.stream.id);
        await page.request.patch(`${URL_}/api/v1/streams/${id}/links/0`, {data: {values: {amount: 0.8}}});
        await until("the fader follows", async (say) => say(await field(page, "amount").getByRole("slider").inputValue()) === "0.8");
        await field(page, "amount").hover();
        await field(page, "amount").getByRole("button", {name: "More on Amount"}).click();
        check(/OSC \/scope\/amount/.test(await page.locator(".popover").innerText()), "the OSC address is not told");
        await page.getByRole("button", {name: "MIDI learn"}).click();
        await until("it learns", () => page.getByText("Move a knob").isVisible());
        await page.evaluate(() => midi(0xb0, 7, 64));
        await page.evaluate(() => midi(0xb0, 7, 127));
        await paints(page, 0, 250, "a knob");
        await page.evaluate(() => midi(0xb0, 7, 0));
        await paints(page, 0, 0, "the knob turned down");
        await field(page, "on").hover();
        await field(page, "on").getByRole("button", {name: "More on On"}).click();
        await page.getByRole("button", {name: "MIDI learn"}).click();
        await until("it learns", () => page.getByText("hit a pad for On").isVisible());
        await page.evaluate(() => midi(0x90, 36, 100));
        await page.evaluate(() => midi(0x90, 36, 100));
        await paints(page, 3, 250, "a pad");
        await type(page, entry(page, "amount"), "0.5");
        await field(page, "amount").getByRole("button", {name: "More on Amount"}).click();
        await page.getByLabel("Beats for one wave").selectOption("0.5 beats");
        await page.getByLabel("LFO", {exact: true}).check();
        await page.keyboard.press("Escape");
        const seen = [];
        await until("an oscillator", async () => { seen.push(await square(page, 0)); return Math.max(...seen) > 160 && Math.min(...seen) < 90; });
        await field(page, "amount").getByRole("button", {name: "More on Amount"}).click();
        await page.getByLabel("LFO", {exact: true}).uncheck();
        await page.keyboard.press("Escape");
    },

    async chain() {
        await type(page, entry(page, "free"), "40");
        await paints(page, 2, 40, "free");
        await page.locator(".add-plugin").click();
        await page.locator(".plugin:enabled", {hasText: "Invert"}).click();
        await paints(page, 2, 215, "inverted by the second plugin");
        check(await page.locator(".chain li").count() === 2, "two plugins are not shown");
        await page.locator(".chain .pick").nth(1).focus();
        await page.keyboard.press("Alt+ArrowLeft");
        await paints(page, 2, 40, "the other way round");
        await until("the order shown", async () => /Invert/.test(await page.locator(".chain li").first().innerText()));
        await page.locator(".chain li").first().getByRole("button", {name: "More"}).click();
        await page.getByRole("menuitem", {name: "Remove"}).click();
        await until("one plugin", async () => await page.locator(".chain li").count() === 1);
        await received(page, 5);
        check(await page.locator(".chain .failed").count() === 0, "a plugin that was removed is missed");
    },

    async setup() {
        // a plugin that cannot be loaded as it is shows its controls all the same
        await page.locator(".add-plugin").click();
        await page.locator(".plugin:enabled", {hasText: "Faulty"}).click();
        await until("what it lacks", async () => /no weights/.test(await page.locator(".notice").innerText()));
        await type(page, field(page, "model").getByRole("textbox"), "some");
        await page.getByRole("button", {name: "Load", exact: true}).click();
        await until("it is there", () => page.evaluate(() => scope.control.stream.chain.length === 2));
        check(await page.locator(".chain li").count() === 2, "its place in the chain is not shown");
        await page.locator(".chain li").nth(1).getByRole("button", {name: "More"}).click();
        await page.getByRole("menuitem", {name: "Remove"}).click();
        await until("one plugin", async () => await page.locator(".chain li").count() === 1);
    },

    async views() {
        await page.evaluate(() => document.activeElement.blur());
        const drawn = () => page.evaluate(() => { const c = document.querySelector(".pane.source canvas"); return c.width > 100 && c.getContext("2d").getImageData(c.width / 2, c.height / 4, 1, 1).data[1] > 40; });
        await page.keyboard.press("v");
        await until("the source beside", drawn);
        await received(page, 3);
        await shot(page, "beside");
        await page.keyboard.press("v");
        const handle = page.getByRole("slider", {name: "Wipe"});
        const box = await handle.boundingBox();
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
        await page.mouse.down();
        await page.mouse.move(box.x - 150, box.y + box.height / 2, {steps: 4});
        await page.mouse.up();
        const at = Number(await handle.getAttribute("aria-valuenow"));
        check(at > 5 && at < 45, `the wipe is at ${at}`);
        await handle.press("ArrowRight");
        check(Number(await handle.getAttribute("aria-valuenow")) === at + 2, "the wipe does not follow keys");
        await shot(page, "wipe");
        await page.evaluate(() => document.activeElement.blur());
        await page.keyboard.press("v");
        await page.keyboard.press("v");
        await page.keyboard.press("f");
        await until("fullscreen", () => page.evaluate(() => document.fullscreenElement?.id === "stage"));
        await page.keyboard.press("f");
        await until("no more", () => page.evaluate(() => !document.fullscreenElement));
        await page.locator("#stage").dblclick();
        await until("fullscreen again", () => page.evaluate(() => Boolean(document.fullscreenElement)));
        await page.keyboard.press("f");
        await page.keyboard.press(" ");
        const held = await frames(page);
        await new Promise((done) => setTimeout(done, 500));
        check(await frames(page) - held <= 1, "the picture is not frozen");
        await page.keyboard.press(" ");
        await received(page, 3);
        await page.keyboard.press("?");
        await until("help", () => page.getByRole("dialog").isVisible());
        await shot(page, "help");
        await page.keyboard.press("Escape");
        await page.keyboard.press("l");
        await until("the log", async () => await page.locator("#log li").count() > 0);
        await shot(page, "log");
        await page.keyboard.press("l");
    },

    async fit() {
        const stream = async () => (await page.request.get(`${URL_}/api/v1/streams/${await page.evaluate(() => scope.control.stream.id)}`)).json();
        const all = page.getByRole("radiogroup", {name: "Fit"}), choice = (name) => all.getByRole("radio", {name});
        check(await choice("crop").isChecked(), "a new stream does not crop");
        await all.getByText("pad", {exact: true}).click();
        await until("the server pads", async (say) => say((await stream()).fit) === "pad");
        await until("so does the view of the source", () => page.evaluate(() => scope.stage.box.dataset.fit === "pad"));
        await choice("pad").press("ArrowRight");
        await until("stretch by key", async (say) => say((await stream()).fit) === "stretch");
        // what the server refuses is said, and not shown as done
        allowed.push("400");
        const at = "**/api/v1/streams/*";
        await page.route(at, (r) => r.request().method() === "PATCH" ? r.fulfill({status: 400, json: {success: false, error: "No such fit today."}}) : r.continue());
        await all.getByText("pad", {exact: true}).click();
        await until("the refusal", () => page.locator("#source").getByText("No such fit today.").isVisible());
        check(await choice("stretch").isChecked(), "what was refused shows as done");
        await page.unroute(at);
        allowed.pop();
        // and another's change comes to this page
        await page.request.patch(`${URL_}/api/v1/streams/${(await stream()).id}`, {data: {fit: "crop"}});
        await until("crop again", () => choice("crop").isChecked());
        check(await page.getByRole("region", {name: "Mask"}).isHidden(), "a mask is offered though no plugin takes one");
    },

    async record() {
        await page.evaluate(() => document.activeElement.blur());
        await page.keyboard.press("r");
        await until("it records", async () => /00:0[1-9]/.test(await page.locator("#actions .record").innerText()));
        await page.getByRole("tab", {name: "Outputs"}).click();
        await shot(page, "outputs");
        await page.keyboard.press("Escape");
        await page.evaluate(() => document.activeElement.blur());
        await page.keyboard.press("r");
        const link = page.locator("#outputs .rows a").first();
        await until("the recording", () => link.isVisible());
        const [file] = await Promise.all([page.waitForEvent("download"), link.click()]);
        check(/\.mp4$/.test(file.suggestedFilename()), `the recording is ${file.suggestedFilename()}`);
        const got = await page.request.get(await link.getAttribute("href"));
        check(got.ok() && (await got.body()).length > 2000, "the recording is empty");
        check(/\/whip$/.test(await page.locator(".link input").first().inputValue()), "the link for OBS is missing");
        const form = page.locator("#outputs form"), rows = page.locator("#outputs ul").nth(1).locator("li");
        allowed.push("400");
        await form.getByRole("textbox").fill("not an address");
        await form.getByRole("button", {name: "Add"}).click();
        await until("what is wrong with the address", () => page.locator("#outputs .error").isVisible());
        allowed.pop();
        await form.getByRole("combobox").selectOption("HLS");
        await form.getByRole("button", {name: "Add"}).click();
        await until("HLS goes out", async (say) => /live/.test(say(await rows.allInnerTexts()).join()));
        check(await page.locator("#outputs .error").isHidden(), "an error stays");
        await until("its link", async () => (await page.locator(".link label").allInnerTexts()).includes("HLS"));
        await rows.getByRole("button", {name: "Stop"}).click();
        await until("HLS is gone", async () => await rows.count() === 0);
        await page.getByRole("tab", {name: "Controls"}).click();
    },

    async again() {
        // a reload comes back to the stream, and the camera goes on
        const before = page.url();
        await page.reload();
        await until("a stream", () => page.evaluate(() => Boolean(globalThis.scope?.control?.stream)));
        check(page.url() === before, "the address changed");
        await received(page, 10);
        await until("the camera", () => page.evaluate(() => scope.source.publisher?.stats.sent > 5));
        // a second window shows the picture alone
        const other = await open({address: `${new URL(before).search}&view=alone`});
        await received(other, 5);
        check(await other.locator("#bar").isHidden(), "the picture is not alone");
        await other.context().close();
        // the picture of a file, in place of the camera
        const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.locator(".kinds button", {hasText: "File"}).click()]);
        await chooser.setFiles(`${process.env.SRC}/examples/clip/demo.jpg`);
        await until("the file is sent", () => page.evaluate(() => scope.source.kind === "file" && scope.source.publisher?.stats.sent > 3));
        await received(page, 5);
        // and one of the server's own
        await page.locator(".kinds button", {hasText: "Server"}).click();
        await type(page, page.locator("#source-url"), "test:");
        await until("the server's source", () => page.evaluate(() => !["websocket", "whip", undefined].includes(scope.control.stream.source?.kind)));
        await received(page, 5);
    },

    async streams() {
        const id = () => page.evaluate(() => scope.control.stream?.id);
        const first = await id();
        const pick = async (name) => {
            await page.locator(".stream").click();
            await page.getByRole("menuitem", {name}).click();
        };
        await pick("New stream");
        await until("another stream", async () => ![first, undefined].includes(await id()));
        const second = await id();
        check(new URL(page.url()).searchParams.get("stream") === second, "the address names the old stream");
        await pick("Rename");
        await page.keyboard.type("Left wall");
        await page.keyboard.press("Enter");
        await until("its name", async () => await page.locator(".stream").innerText() === "Left wall");
        await page.locator(".stream").click();
        await page.getByRole("menuitem").first().click();
        await until("the first stream again", async () => await id() === first);
        await pick("Left wall");
        await until("the second stream", async () => await id() === second);
        await pick("End this one");
        await page.getByRole("button", {name: "End it"}).click();
        await until("what is left", async () => await id() === first);
    },

    async webrtc() {
        await page.context().close();
        await start({settings: {transport: "webrtc"}});
        await camera(page);
        await received(page, 30);
        check(await page.evaluate(() => document.querySelector(".pane.result video").videoWidth) > 0, "no video");
        await until("it comes in by WHIP", () => page.evaluate(() => scope.control.stream.source?.kind === "whip"));
        await shot(page, "webrtc");
    },

    async mjpeg() {
        await page.context().close();
        await start({settings: {transport: "mjpeg"}});
        await camera(page);
        await until("a picture", () => page.evaluate(() => document.querySelector(".pane.result img").naturalWidth > 0));
    },

    async phone() {
        await page.context().close();
        await start({viewport: {width: 390, height: 844}, touch: true});
        await camera(page);
        await received(page, 10);
        await page.getByRole("tab", {name: "Controls"}).click();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        check(wide <= 390, `the page is ${wide} px wide`);
        await shot(page, "phone");
        for (const tab of ["Source", "Outputs", "Controls"]) {
            await page.getByRole("tab", {name: tab}).click();
            check(await page.evaluate(() => document.documentElement.scrollWidth) <= 390, `${tab} is too wide`);
        }
        await type(page, entry(page, "amount"), "1");
        await paints(page, 0, 250, "amount on a phone");
    },

    async keyboard() {
        await page.context().close();
        await start();
        await until("the panel", () => field(page, "amount").isVisible());
        const names = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, [role=slider]")]
            .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.labels?.length || e.innerText?.trim() || e.getAttribute("aria-labelledby") || e.title))
            .map((e) => e.outerHTML.slice(0, 120)));
        check(!names.length, `without a name: ${names.join("; ")}`);
        let reached = false;
        for (let i = 0; i < 80 && !reached; i++) {
            await page.keyboard.press("Tab");
            const now = await page.evaluate(() => {
                const e = document.activeElement, s = getComputedStyle(e);
                return {seen: e.matches(":focus-visible") && (s.outlineStyle !== "none" || s.boxShadow !== "none" || e.matches(".segments input, .divider")), at: e.closest(".field")?.dataset.name, what: e.outerHTML.slice(0, 100)};
            });
            check(now.seen, `the focus is not visible on ${now.what}`);
            reached = now.at === "amount";
        }
        check(reached, "amount is not reached by Tab");
        await page.keyboard.press("Home");
        await until("amount by keys alone", async () => await value(page, "amount") === 0);
    },

    // The plugin and the model that ship, on the clip that ships: the picture of the README.
    async restyle() {
        await start({viewport: {width: 1440, height: 860}});
        await received(page, 2);
        const texts = field(page, "prompts").getByRole("textbox", {name: /^Prompt/});
        const weights = field(page, "prompts").getByRole("spinbutton");
        await type(page, texts.first(), "watercolour");
        await field(page, "prompts").getByRole("button", {name: "Add"}).click();
        await type(page, texts.nth(1), "neon");
        await type(page, weights.nth(1), "0.25");
        await type(page, entry(page, "transition_steps"), "12");
        await until("the prompts in force", async () => JSON.stringify(await value(page, "prompts")) === '[{"text":"watercolour","weight":1},{"text":"neon","weight":0.25}]');
        await page.evaluate(() => { document.activeElement.blur(); scope.stage.setView("wipe"); scope.stage.setWipe(0.46); });
        await page.mouse.move(700, 300);
        await received(page, 3);
        const pair = () => page.evaluate(() => scope.stage.times);
        await until("source and result of one frame", async (say) => { const [result, source] = say(await pair()); return result && result === source; });
        await page.screenshot({path: `${SHOTS}/page-restyled.jpg`, type: "jpeg", quality: 86});
    },

    // A second input, of the plugin that ships: put, refused, kept over a reload, taken away.
    async mask() {
        const mask = page.getByRole("region", {name: "Mask"}), thumb = mask.locator(".thumb");
        const seen = () => thumb.evaluate((e) => e.checkVisibility() && e.naturalWidth > 1);
        const answered = (method) => page.waitForResponse((r) => r.request().method() === method && /\/inputs\/mask$/.test(r.url()));
        const choose = async (file) => {
            const [chooser] = await Promise.all([page.waitForEvent("filechooser"), mask.getByRole("button", {name: "Choose"}).click()]);
            const [answer] = await Promise.all([answered("PUT"), chooser.setFiles(file)]);
            return answer.status();
        };
        await until("a mask is offered", () => mask.isVisible());
        check(!await seen(), "a mask is shown before there is one");
        allowed.push("400");
        check(await choose({name: "notes.png", mimeType: "image/png", buffer: Buffer.from("no picture")}) === 400, "a text is taken for a picture");
        await until("what is wrong with it", () => mask.getByText("neither a PNG nor a JPEG").isVisible());
        check(!await seen(), "what was refused is shown");
        await shot(page, "mask-refused");
        allowed.pop();
        const picture = `${process.env.SRC}/examples/clip/demo.jpg`;
        check(await choose(picture) === 200, "the picture is refused");
        await until("its small copy", seen);
        check(await mask.locator(".error").isHidden(), "an error stays");
        await page.setViewportSize({width: 390, height: 844});
        await page.getByRole("tab", {name: "Source"}).click();
        check(await page.evaluate(() => document.documentElement.scrollWidth) <= 390, "the mask makes the page too wide");
        await mask.scrollIntoViewIfNeeded();
        await shot(page, "mask-phone");
        await page.setViewportSize({width: 1440, height: 860});
        await shot(page, "mask");
        await page.reload();
        await until("the mask after a reload", seen);
        // the plugin has it: the result covers the source where the mask is bright
        const black = await page.evaluate(() => Object.assign(document.createElement("canvas"), {width: 64, height: 64}).getContext("2d", {alpha: false}).canvas.toDataURL("image/png").split(",")[1]);
        check(await choose({name: "black.png", mimeType: "image/png", buffer: Buffer.from(black, "base64")}) === 200, "a PNG is refused");
        const apart = () => page.evaluate(() => {
            const [a, b] = ["result", "source"].map((name) => {
                const to = Object.assign(document.createElement("canvas"), {width: 32, height: 32}).getContext("2d");
                to.drawImage(document.querySelector(`.pane.${name} canvas`), 0, 0, 32, 32);
                return to.getImageData(0, 0, 32, 32).data;
            });
            return a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length;
        });
        await page.evaluate(() => scope.stage.setView("wipe"));
        await until("a result unlike its source", async (say) => say(await apart()) > 14);
        await page.evaluate(() => scope.chain.panel.change({mask_compositing: true, mask_source: "input"}));
        await until("nothing but the source under a black mask", async (say) => say(await apart()) < 6);
        const gone = answered("DELETE");
        await mask.getByRole("button", {name: "Remove the mask"}).press("Enter");
        check((await gone).status() === 200, "the mask cannot be taken away");
        await until("no mask", async () => !await seen());
        await until("the result again", async (say) => say(await apart()) > 14);
        // dropped, and taken away by another
        const bytes = readFileSync(picture).toString("base64");
        const put = answered("PUT");
        await mask.locator(".drop").dispatchEvent("drop", {dataTransfer: await page.evaluateHandle((b) => {
            const all = new DataTransfer();
            all.items.add(new File([Uint8Array.from(atob(b), (c) => c.charCodeAt(0))], "dropped.jpg", {type: "image/jpeg"}));
            return all;
        }, bytes)});
        check((await put).status() === 200, "what was dropped is refused");
        await until("what was dropped", seen);
        const other = await page.request.delete(`${URL_}/api/v1/streams/${await page.evaluate(() => scope.control.stream.id)}/inputs/mask`);
        check(other.ok(), "another cannot take the mask away");
        allowed.push("400");
        await mask.getByRole("button", {name: "Remove the mask"}).click();
        await until("it is said, and gone here too", async () => await mask.getByText("there is no input mask").isVisible() && !await seen());
        allowed.pop();
    },

    async token() {
        allowed.push("401");
        page = await open();
        await until("the question", () => page.getByRole("dialog").isVisible());
        await shot(page, "token");
        await type(page, page.getByRole("textbox", {name: "Token"}), "wrong");
        await until("asked again", () => page.getByText("not right").isVisible());
        await type(page, page.getByRole("textbox", {name: "Token"}), process.env.TOKEN);
        await until("a stream", () => page.evaluate(() => Boolean(globalThis.scope?.control?.stream)));
        await page.reload();
        await until("the token is kept", () => page.evaluate(() => Boolean(globalThis.scope?.control?.stream)));
    },
};

for (const name of STEPS) {
    const at = Date.now();
    try {
        await steps[name]();
        check(!problems.length, `the browser complains: ${problems.join("\n")}`);
    } catch (e) {
        if (page)
            await shot(page, `broken-${name}`).catch(() => {});
        console.log(`FAIL: ${name}: ${e.message.split("\n").slice(0, 12).join("\n")}\n${e.stack.split("\n").filter((l) => l.includes("page.mjs")).join("\n")}\n${problems.join("\n")}`);
        await browser.close();
        process.exit(1);
    }
    console.log(`${name}: ${Date.now() - at} ms`);
}
await browser.close();
