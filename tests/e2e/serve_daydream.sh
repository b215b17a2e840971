#!/bin/bash
# Daydream's API: its own SDK, a conversation compared key by key, what comes of changes while a stream runs, and of
# requests that make no sense.
. "$SRC/tests/e2e/lib.sh"
tiny='{"values": {"model_id_or_path": "'$SRC/examples/models/tiny'"}}'
jq -n --argjson t "$tiny" '{streams_max: 4, models: {"stabilityai/sd-turbo": ($t + {plugin: "streamdiffusion"}),
    "stabilityai/sdxl-turbo": $t, "Lykon/dreamshaper-8": ($t | .values.memory = "low"), "prompthero/openjourney-v4": $t,
    "nobody/none": {plugin: "nothing.such", family: "sdxl"}, "nobody/lost": {values: {model_id_or_path: "/lost"}}}}' >config.json
python=$TOOLS/venv/bin/python
export XDG_DATA_HOME=$TMP/none
serve --config config.json

sdk() { timeout 120 node "$SRC/tests/clients/daydream_sdk.mjs" "$@" >sdk.out 2>&1 || fail "the SDK: $(tail -n 30 sdk.out)"; }
sdk "$URL"
cat sdk.out

# ---- the whole conversation, keys, types and values ------------------------------------------------
cat >asked.json <<'JSON'
{"pipeline":"streamdiffusion","params":{"model_id":"stabilityai/sd-turbo","prompt":"flowers","prompt_interpolation_method":"slerp","normalize_prompt_weights":true,"normalize_seed_weights":true,"negative_prompt":"","guidance_scale":1.0,"delta":0.7,"num_inference_steps":50,"t_index_list":[12,20,32],"use_safety_checker":false,"width":128,"height":128,"lora_dict":null,"use_lcm_lora":true,"lcm_lora_id":"latent-consistency/lcm-lora-sdv1-5","acceleration":"none","use_denoising_batch":true,"do_add_noise":true,"seed":789,"seed_interpolation_method":"linear","enable_similar_image_filter":false,"similar_image_filter_threshold":0.98,"similar_image_filter_max_skip_frame":10,"skip_diffusion":false,"image_preprocessing":null,"image_postprocessing":null,"latent_preprocessing":null,"latent_postprocessing":null,"controlnets":[]}}
JSON
cat >types.json <<'JSON'
{"author":"string","created_at":"string","from_playground":"boolean","gateway_host":"string","id":"string","is_smoke_test":"boolean","name":"string","output_hls_url":"string","output_playback_id":"string","output_rtmp_url":"null","output_stream_url":"string","params":"object","pipeline":"string","status":"string","stream_key":"string","warnings":"array","whip_url":"string"}
JSON
stream_object() { # of the last answer, with these parameters
    is 'map_values(type)' && jq -S 'map_values(type)' api.out | cmp -s - <(jq -S . types.json) ||
        fail "keys or types of a stream: $(jq -Sc 'map_values(type)' api.out)"
    jq -S .params api.out | cmp -s - <(jq -S "$1" asked.json) || fail "params: $(jq -Sc .params api.out)"
    is '.pipeline == "streamdiffusion" and .from_playground == false and .is_smoke_test == false'
    is '.created_at | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z$")'
    jq -e --arg u "$URL" '.whip_url == "\($u)/live/\(.stream_key)/whip" and
        .output_stream_url == "\($u)/live/\(.output_playback_id)/whep" and
        .gateway_host == ($u | ltrimstr("http://"))' api.out >/dev/null || fail "addresses: $(cat api.out)"
}
answers 201 POST /v1/streams "$(cat asked.json)"
stream_object .params
id=$(jq -r .id api.out) key=$(jq -r .stream_key api.out) play=$(jq -r .output_playback_id api.out)
answers 200 GET "/v1/streams/$id"
stream_object .params
answers 200 PATCH "/v1/streams/$id" '{"params": {"prompt": "ink"}}'
stream_object '.params + {prompt: "ink"}'
answers 200 PATCH "/v1/streams/$id" '{"pipeline": "streamdiffusion-sdxl", "params": {"prompt": null}, "name": "mine"}'
stream_object .params
is '.name == "mine"'
[ "$(jq -r .output_playback_id api.out)" = "$play" ] || fail "the playback id changes"
answers 200 GET /v1/streams
is '(keys == ["data", "success"]) and .success == true and (.data | length == 1)'
jq '.data[0]' api.out >one && mv one api.out
stream_object .params

error() { # STATUS CODE FIELD: the last answer, in Daydream's shape
    is '(keys == ["code", "details", "error", "requestId", "status", "success", "traceId"]) and .success == false'
    jq -e --argjson s "$1" --arg c "$2" --arg f "$3" '.status == $s and .code == $c and (.error | length > 5) and
        .details == (if $f == "" then null else {field: $f} end)' api.out >/dev/null || fail "$*: $(cat api.out)"
}
refused() { # FIELD METHOD PATH JSON
    answers 400 "${@:2}"
    error 400 STREAMS/INVALID_PARAMS "$1"
}
new() { echo '{"pipeline": "streamdiffusion", "params": '"$1"'}'; }
refused pipeline POST /v1/streams '{"params": {}}'
refused pipeline POST /v1/streams '{"pipeline": "longlive"}'
refused pipeline POST /v1/streams '{"pipeline": 5}'
refused parms POST /v1/streams '{"pipeline": "streamdiffusion", "parms": {}}'
refused params POST /v1/streams "$(new '[]')"
refused name POST /v1/streams '{"pipeline": "streamdiffusion", "name": "a\u0007b"}'
refused user_id POST /v1/streams '{"pipeline": "streamdiffusion", "user_id": ""}'
refused output_rtmp_url POST /v1/streams '{"pipeline": "streamdiffusion", "output_rtmp_url": "file:///etc/passwd"}'
refused model_id POST /v1/streams "$(new '{"model_id": "runwayml/stable-diffusion-v1-5"}')"
refused width POST /v1/streams "$(new '{"width": 513}')"
refused promt POST /v1/streams "$(new '{"promt": "x"}')"
refused ip_adapter POST /v1/streams "$(new '{"ip_adapter": {"enabled": true}}')"
refused seed PATCH "/v1/streams/$id" '{"params": {"seed": "one"}}'
refused width PATCH "/v1/streams/$id/params" '{"width": 512}'
refused params POST "/beta/streams/$id/prompts" '{"pipeline": "live-video-to-video"}'
answers 400 POST /v1/streams '{"pipeline": '
error 400 REQUEST/INVALID_JSON ""
answers 400 POST /v1/streams '[1]'
answers 400 DELETE /v1/streams
error 400 REQUEST/INVALID id
for call in "GET /v1/streams/none" "GET /v1/streams/none/status" "DELETE /v1/streams/none" "DELETE /v1/streams?id=none"; do
    # shellcheck disable=SC2086
    answers 404 $call
    error 404 STREAMS/NOT_FOUND ""
done
answers 200 GET /v1/streams
is '.data | length == 1' # what was refused has left nothing behind

# ---- it runs ---------------------------------------------------------------------------------------
state() { curl -sS "$URL/v1/streams/$id/status" | jq -r .data.state; }
is_state() { [ "$(state)" = "$1" ]; }
await 60 is_state OFFLINE # loaded, and nobody publishes
timeout 240 "$python" "$SRC/tests/clients/publish.py" "ws://127.0.0.1:$PORT/live/$key/publish" 200 >publish.out 2>&1 &
publisher=$!
await 60 is_state ONLINE
answers 200 GET "/v1/streams/$id/status"
is '.success == true and .error == null and .status == "running" and .frames_processed > 0 and (.fps | type == "number")'
is '.data.gateway_status.whep_url == "'"$URL/live/$play/whep"'"'
is '.data.inference_status | .last_params.width == 128 and .start_time > 1.7e12 and .last_input_time >= .start_time'
is '(.latency_ms | type == "number") and (.uptime_seconds | type == "number") and (.started_at | type == "string")'
is '[keys[]] == ["created_at", "data", "error", "error_message", "fps", "frames_processed", "gpu_memory_used_mb",
    "gpu_utilization_percent", "id", "latency_ms", "started_at", "status", "success", "uptime_seconds", "warnings"]'
is '(.data | keys) == ["gateway_status", "inference_status", "orchestrator_info", "pipeline", "pipeline_id", "request_id",
    "state", "stream_id", "type"]'

# its HLS begins when it is asked for
hls() { curl -sSf -m 30 "$URL/live/$play/hls/index.m3u8" | grep -q '\.ts'; }
await 60 hls
outlets() { curl -sS "$URL/api/v1/streams/$id/outputs" | jq -c '[.outputs[] | .kind]'; }
[ "$(outlets)" = '["hls"]' ] || fail "outputs: $(outlets)"

# what it was asked for is what the plugin has; and what others change is told here
plugin() { curl -sS "$URL/api/v1/streams/$id" | jq -e "$1" >plugin.out; }
await 10 plugin '.chain[0].values | .prompts == [{text: "flowers", weight: 1}] and .t_index_list == [12, 20, 32] and .cfg_type == "self"'
started=$(pgrep -P "$SERVER" | sort)
answers 200 PATCH "/v1/streams/$id/params" '{"prompt": [["ink", 1], ["neon", 0.5]], "t_index_list": [20], "seed": 5}'
await 20 plugin '.chain[0].values | .prompts[1] == {text: "neon", weight: 0.5} and .t_index_list == [20] and .seed == 5'
answers 200 PATCH "/v1/streams/$id" '{"params": {"width": 192, "height": 64}}'
await 20 plugin '.stats | .w == 192 and .h == 64'
[ "$(pgrep -P "$SERVER" | sort)" = "$started" ] || fail "a worker was started for what needs no reload"
answers 200 POST "/beta/streams/$id/prompts" '{"pipeline": "live-video-to-video", "model_id": "streamdiffusion", "params": {"prompt": "woodcut"}}'
is '.success == true and .was_censored == false and .warnings == []'
answers 200 PATCH "/api/v1/streams/$id/links/streamdiffusion" '{"values": {"guidance_scale": 1.25, "seed": 77}}'
answers 200 GET "/v1/streams/$id"
is '.params | .guidance_scale == 1.25 and .seed == 77 and .prompt == "woodcut" and .width == 192'

# what has no counterpart is kept, and said
answers 200 PATCH "/v1/streams/$id" '{"params": {"use_safety_checker": true, "controlnets": [{"model_id":
    "thibaud/controlnet-sd21-canny-diffusers", "preprocessor": "canny", "conditioning_scale": 0.2}]}}'
is '.params.use_safety_checker and (.params.controlnets[0] | length == 7) and (.warnings | length == 2)'
answers 200 PATCH "/v1/streams/$id/params" '{"controlnet_scales": {"0": 0.5}}'
is '.params.controlnets[0].conditioning_scale == 0.5'
refused controlnet_scales PATCH "/v1/streams/$id/params" '{"controlnet_scales": {"1": 0.5}}'
[ "$(grep -c "$id: controlnets has no effect" serve.log)" = 1 ] || fail "the log does not say it once"
answers 200 GET "/v1/streams/$id/status"
is '.warnings | length == 2'
answers 200 PATCH "/v1/streams/$id" '{"params": {"use_safety_checker": false, "controlnets": []}}'
is '.warnings == []'

# a reload: another checkpoint. One that cannot be loaded leaves what was.
answers 200 PATCH "/v1/streams/$id" '{"params": {"model_id": "Lykon/dreamshaper-8"}}'
is '.params | .model_id == "Lykon/dreamshaper-8" and .ip_adapter.enabled == false'
await 60 plugin '.state == "online" and .chain[0].values.memory == "low"'
answers 200 PATCH "/v1/streams/$id" '{"params": {"model_id": "nobody/lost", "prompt": "gone"}}'
is '.params | .model_id == "nobody/lost" and .prompt == "gone"'
told() { curl -sS "$URL/v1/streams/$id/status" | jq -e --arg t "$1" '.error_message // "" | contains($t)'; }
await 60 told /lost
answers 200 GET "/v1/streams/$id"
is '.params | .model_id == "Lykon/dreamshaper-8" and .prompt == "woodcut"'
await 20 is_state ONLINE
answers 400 PATCH "/v1/streams/$id" '{"params": {"model_id": "nobody/none"}}' # its plugin is not there
answers 200 GET "/v1/streams/$id"
is '.params.model_id == "Lykon/dreamshaper-8"'
await 20 is_state ONLINE
refused model_id PATCH "/v1/streams/$id" '{"params": {"model_id": "no/such"}}'

# LoRAs by REST; one that is not there is told, and the stream goes on as before
answers 200 PATCH "/v1/streams/$id" '{"params": {"lora_dict": {"none.safetensors": 0.5}}}'
warned() { curl -sS "$URL/v1/streams/$id/status" | jq -e '.warnings | map(contains("none.safetensors")) | any'; }
await 20 warned
answers 200 PATCH "/v1/streams/$id" '{"params": {"lora_dict": null}}'
await 20 is_state ONLINE

# skipping the networks and back needs no reload
answers 200 PATCH "/v1/streams/$id" '{"params": {"skip_diffusion": true}}'
await 20 plugin '.chain[0].values.enabled == false'
answers 200 PATCH "/v1/streams/$id" '{"params": {"skip_diffusion": false}}'
no_outlets() { [ "$(outlets)" = '[]' ]; }
await 60 no_outlets # nobody has asked for its HLS since
kill "$publisher" && wait "$publisher" 2>/dev/null
await 20 is_state OFFLINE
answers 204 DELETE "/v1/streams/$id"
answers 404 GET "/v1/streams/$id"

# ---- whose, and other names ------------------------------------------------------------------------
answers 201 POST /v1/streams '{"pipeline": "streamdiffusion-sd15", "user_id": "ann", "output_rtmp_url": null,
    "params": {"width": 768, "height": 448, "lora_dict": {}, "image_preprocessing": [], "video_codec": "h264", "video_bframes": 2}}'
is '.pipeline == "streamdiffusion" and .author == "ann" and .params.model_id == "Lykon/dreamshaper-8"'
is '.params | .width == 768 and .lora_dict == null and .image_preprocessing == null and .video_codec == "h264" and .video_bframes == 2'
answers 200 GET '/v1/streams?user_id=ann'
is '.data | length == 1'
answers 200 GET '/v1/streams?user_id=bob'
is '.data == []'
one=$(jq -r '.data[0].id // empty' api.out)
[ -z "$one" ] || fail "bob's stream"
answers 200 GET '/v1/streams?user_id=ann'
one=$(jq -r '.data[0].id' api.out)
push=rtmp://127.0.0.1:1/live/secret
outputs() { curl -sS "$URL/api/v1/streams/$one/outputs" | jq -e "$1"; }
answers 200 PATCH "/v1/streams/$one" '{"output_rtmp_url": "'$push'"}'
is '.output_rtmp_url == "'$push'"'
outputs '.outputs | length == 1 and .[0].kind == "rtmp"' >/dev/null || fail "nothing is pushed: $(outputs .)"
answers 200 PATCH "/v1/streams/$one" '{"output_rtmp_url": null}'
is '.output_rtmp_url == null'
await 20 outputs '.outputs | map(select(.state != "done")) == []'
answers 201 POST /api/v1/streams '{"chain": []}' # not Daydream's
other=$(jq -r .id api.out)
answers 404 GET "/v1/streams/$other"
answers 200 GET /v1/streams
is '.data | length == 1'
answers 200 DELETE "/v1/streams?id=$(jq -r '.data[0].id' api.out)"
is '. == {success: true, data: {}}'
answers 201 POST /v1/streams "$(new '{"model_id": "nobody/none"}')" # made at once; what is wrong is told
id=$(jq -r .id api.out)
is '.status == "error"'
is_state ERROR || fail "a model without a plugin: $(state)"

# ---- a token, and models that are not here ---------------------------------------------------------
another_server() { # FLAG...
    kill -TERM "$SERVER"
    wait "$SERVER" || fail "the server ended with $?"
    rm serve.out
    serve "$@"
}
another_server --token secret --streams-max 2
sdk "$URL" secret
api GET /v1/streams >/dev/null
[ "$(cat api.status)" = 401 ] || fail "without a token: $(cat api.status)"
error 401 AUTH/UNAUTHORIZED ""
another_server --strict-sizes
refused width POST /v1/streams "$(new '{"width": 256}')"
refused height POST /v1/streams "$(new '{"height": 520}')"
for model in stabilityai/sd-turbo prompthero/openjourney-v4; do
    answers 201 POST /v1/streams "$(new "{\"model_id\": \"$model\"}")"
    is '.status == "starting" or .status == "error"'
    id=$(jq -r .id api.out)
    await 60 is_state ERROR
    await 10 told "scope model get $model"
    answers 200 DELETE "/v1/streams?id=$id"
done

# ---- Daydream Scope's reads ------------------------------------------------------------------------
answers 200 GET /api/v1/pipelines/schemas
is '.pipelines.streamdiffusion | .supports_prompts and .supports_lora and .requires_models and (.config_schema.properties.prompts.ui.order == 9)'
is '.pipelines.streamdiffusion.supported_modes == ["text", "video"] and (.pipelines | has("org.example.invert"))'
answers 200 GET /api/v1/pipeline/status
is '.status == "not_loaded" and .pipeline_id == null and .error == null'
answers 409 POST /api/v1/session/parameters '{"half_life": 0.5}'
answers 400 POST /api/v1/pipeline/load '{"pipeline_ids": ["trial"]}'
answers 400 POST /api/v1/pipeline/load '{"pipeline_ids": ["trail"], "load_params": {"speed": 1}}'
answers 200 POST /api/v1/pipeline/load '{"pipeline_ids": ["invert", "trail"], "load_params": null}'
loaded() { curl -sS "$URL/api/v1/pipeline/status" | jq -e '.status == "loaded" and .pipeline_id == "org.example.invert"'; }
await 30 loaded
answers 200 POST /api/v1/session/parameters '{"half_life": 0.5}'
is '. == {status: "ok", applied_parameters: {half_life: 0.5}}'
answers 200 GET /api/v1/session/parameters
is '.parameters.half_life == 0.5'
answers 400 POST /api/v1/session/parameters '{"half_life": 50}'
answers 400 POST /api/v1/session/parameters '{"speed": 5}'
answers 400 POST /api/v1/session/parameters '{}'
