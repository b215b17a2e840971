// daydream_sdk.mjs URL [TOKEN]: the calls of Daydream's own SDK, for each model, with the answers judged by its
// schemas. Every answer must parse into typed parameters, and every error into the class of its status.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [url, token] = process.argv.slice(2);
const require = createRequire(`${process.env.TOOLS}/node_modules/`);
const { Daydream } = require("@daydreamlive/sdk");
const errors = require("@daydreamlive/sdk/models/errors");
const [major, minor] = require("zod/package.json").version.split(".").map(Number);
assert(major > 4 || (major === 4 && minor >= 4), "zod 4.4 or newer is what makes the SDK strict");

const daydream = new Daydream({ serverURL: url, ...(token ? { bearer: token } : {}) });
const size = { width: 256, height: 256 };
const models = {
  "stabilityai/sd-turbo": {},
  "stabilityai/sdxl-turbo": {
    tIndexList: [36],
    ipAdapter: { type: "faceid", enabled: true, scale: 0.6, weightType: "style transfer" },
    controlnets: [{ modelId: "xinsir/controlnet-depth-sdxl-1.0", conditioningScale: 0.7, preprocessor: "depth_tensorrt",
      preprocessorParams: {}, enabled: true, controlGuidanceStart: 0, controlGuidanceEnd: 0.5 }],
  },
  "Lykon/dreamshaper-8": {
    prompt: [["ink", 0.5], ["neon", 0.5]],
    seed: [[1, 0.25], [2, 0.75]],
    cachedAttention: { enabled: false, maxFrames: 2, interval: 10 },
    ipAdapterStyleImageUrl: "https://example.org/style.png",
  },
  "prompthero/openjourney-v4": {
    imagePreprocessing: { enabled: true, processors: [{ type: "canny", enabled: true, params: { low_threshold: 100 } }] },
    latentPreprocessing: { enabled: true, processors: [{ type: "latent_feedback", enabled: true, params: {} }] },
  },
};
const strings = ["id", "streamKey", "createdAt", "outputPlaybackId", "name", "author", "gatewayHost", "whipUrl",
  "outputStreamUrl"];

// A stream object that the SDK understood in full: typed parameters, no empty strings for what was null or missing.
function judge(stream, modelId) {
  assert.equal(stream.pipeline, "streamdiffusion");
  assert.equal(stream.params.modelId, modelId, JSON.stringify(stream.params).slice(0, 300));
  assert(!("isUnknown" in stream.params) && !("raw" in stream.params));
  for (const key of strings) assert(typeof stream[key] === "string" && stream[key], `${key} is ${stream[key]}`);
  assert.equal(stream.fromPlayground, false);
  assert.equal(stream.isSmokeTest, false);
  assert(!Number.isNaN(Date.parse(stream.createdAt)));
  assert(stream.whipUrl.startsWith(`${url}/live/${stream.streamKey}/`), stream.whipUrl);
  assert(stream.outputStreamUrl.startsWith(`${url}/live/${stream.outputPlaybackId}/`), stream.outputStreamUrl);
  assert.equal(stream.gatewayHost, new URL(url).host);
}

async function fails(promise, kind, status, code) {
  const error = await promise.then(() => assert.fail(`no ${kind}`), (e) => e);
  assert(error instanceof errors[kind], `${error.name}, not ${kind}: ${error.message}`);
  assert.equal(error.statusCode, status);
  assert.equal(error.data$?.code ?? error.code, code);
}

for (const [modelId, more] of Object.entries(models)) {
  const made = await daydream.streams.create({
    pipeline: "streamdiffusion", name: `of ${modelId}`, params: { modelId, prompt: "ink", ...size, ...more } });
  judge(made, modelId);
  assert.equal(made.name, `of ${modelId}`);
  assert.equal(made.params.width, 256);
  assert.deepEqual(made.params.prompt, more.prompt ?? "ink");
  if (more.controlnets) assert.deepEqual(made.params.controlnets, more.controlnets);
  if (more.ipAdapter) assert.deepEqual(made.params.ipAdapter, more.ipAdapter);
  if (more.cachedAttention) assert.deepEqual(made.params.cachedAttention, more.cachedAttention);
  if (more.imagePreprocessing) assert.deepEqual(made.params.imagePreprocessing, more.imagePreprocessing);
  if (more.seed) assert.deepEqual(made.params.seed, more.seed);

  judge(await daydream.streams.getById({ id: made.id }), modelId);

  const changed = await daydream.streams.update({
    id: made.id, body: { pipeline: "streamdiffusion", params: { modelId, prompt: "neon", guidanceScale: 1.5 } } });
  judge(changed, modelId);
  assert.equal(changed.params.prompt, "neon");
  assert.equal(changed.params.guidanceScale, 1.5);
  assert.equal(changed.params.width, 256, "an update merges");
  assert.equal(changed.id, made.id);
  assert.deepEqual(changed.params.controlnets, made.params.controlnets);

  const all = await daydream.streams.getAll();
  assert.equal(all.success, true);
  assert.equal(all.data.find((s) => s.id === made.id)?.params.prompt, "neon");
  assert.equal((await daydream.streams.getAll({ userId: "nobody" })).data.length, 0);
  assert.equal((await daydream.public.getById({ id: made.id })).id, made.id);

  assert.deepEqual(await daydream.streams.delete({ id: made.id }), { success: true, data: {} });
  await fails(daydream.streams.getById({ id: made.id }), "NotFoundError", 404, "STREAMS/NOT_FOUND");
}

const turbo = { pipeline: "streamdiffusion", params: { modelId: "stabilityai/sd-turbo", ...size } };
await fails(daydream.streams.delete({ id: "a/b" }), "NotFoundError", 404, "STREAMS/NOT_FOUND");
await fails(daydream.streams.update({ id: "none", body: turbo }), "NotFoundError", 404, "STREAMS/NOT_FOUND");
await fails(daydream.streams.create({ ...turbo, params: { ...turbo.params, width: 100 } }), "BadRequestError", 400,
  "STREAMS/INVALID_PARAMS");
await fails(daydream.streams.create({ ...turbo, params: { ...turbo.params, tIndexList: [3, 2] } }), "BadRequestError", 400,
  "STREAMS/INVALID_PARAMS");
if (token)
  await fails(new Daydream({ serverURL: url, bearer: "wrong" }).streams.getAll(), "UnauthorizedError", 401,
    "AUTH/UNAUTHORIZED");

// as many streams as the server takes, and one more
const made = [];
for (;;) {
  const one = await daydream.streams.create(turbo).catch((e) => e);
  if (one instanceof Error) {
    assert(one instanceof errors.TooManyRequestsError, `${one.name}: ${one.message}`);
    break;
  }
  made.push(one.id);
  assert(made.length < 100, "there is no limit");
}
for (const id of made) await daydream.streams.delete({ id });
assert.equal((await daydream.streams.getAll()).data.length, 0);
console.log(`${Object.keys(models).length} models, ${made.length} streams at once`);
