#!/bin/bash
# Every route of /openapi.json under requests that Schemathesis makes of it: good ones, and each wrong in one thing.
# None may be answered by a 5xx, or otherwise than the document says. Left out are the routes that become a WebSocket
# (control, publish, view) and the one that never ends (mjpeg): other tests have those.
. "$SRC/tests/e2e/lib.sh"
jq -n '{streams_max: 64, models: (["stabilityai/sd-turbo", "stabilityai/sdxl-turbo", "Lykon/dreamshaper-8",
    "prompthero/openjourney-v4"] | map({key: ., value: {plugin: "passthrough"}}) | from_entries)}' >config.json
serve --config config.json
answers 200 GET /openapi.json
is '.openapi == "3.1.0" and (.paths | length > 30)'
is '[.. | objects | select(has("$ref"))."$ref" | ltrimstr("#/components/") | split("/")] - [.components | paths | select(length == 2)] == []'
daydream=$(api POST /v1/streams '{"pipeline": "streamdiffusion"}')
ours=$(api POST /api/v1/streams '{"chain": [{"plugin": "color"}], "source": {"url": "test:"}}')
STREAMS=$(jq -n --argjson d "$daydream" --argjson s "$ours" '[{under: "/v1/streams/", id: $d.id}, {under: "/beta/", id: $d.id},
    {under: "/api/v1/streams/", id: $s.id, link: "0"}, {under: "/live/{key}/whip", key: $s.publish_key},
    {under: "/live/", key: $s.playback_id}]')
export STREAMS SCHEMATHESIS_HOOKS=openapi_hooks PYTHONPATH=$SRC/tests/clients PYTHONDONTWRITEBYTECODE=1

# A schema cannot say all that is refused, such as a list that does not rise: hence no positive_data_acceptance. Of the
# routes that take Daydream's parameters, one is enough to go through all that can be wrong with them (coverage).
cat >schemathesis.toml <<'TOML'
seed = 1
generation.max-examples = 3
phases.examples.enabled = false
phases.stateful.enabled = false
phases.coverage.unexpected-methods = ["PUT", "TRACE"]
checks.positive_data_acceptance.enabled = false
[[operations]]
include-path-regex = '^/v1/streams/\{id\}$|^/beta/|/params$'
phases.coverage.enabled = false
[[operations]]
include-path-regex = '/control$|/publish$|/view$|/mjpeg$'
enabled = false
TOML
timeout 270 "$TOOLS/venv/bin/schemathesis" --config-file schemathesis.toml run "$URL/openapi.json" --no-shrink \
    --request-timeout 30 >schemathesis.out 2>&1 ||
    fail "$(grep -v '^$' schemathesis.out | cut -c1-400 | tail -n 60)"
grep -A1 'Selected:\|Test cases:' schemathesis.out | grep -v '^--'
answers 200 GET /health
is '.status == "ok"'
never serve.log CRITICAL
