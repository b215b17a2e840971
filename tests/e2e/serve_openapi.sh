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

# tries PHASES EXAMPLES CHECKS FILTER...: all checks but these on the routes that the filter leaves
tries() {
    timeout 250 "$TOOLS/venv/bin/schemathesis" run "$URL/openapi.json" --seed 1 --phases "$1" --max-examples "$2" \
        --exclude-checks "$3" --no-shrink --request-timeout 30 "${@:4}" >schemathesis.out 2>&1 ||
        fail "$(grep -v '^$' schemathesis.out | cut -c1-400 | tail -n 60)"
    grep -A1 'Selected:\|Test cases:' schemathesis.out | grep -v '^--'
}
# A schema cannot say all that is refused, such as a list that does not rise: hence not positive_data_acceptance. Of the
# three routes that take Daydream's parameters, one is enough to go through all that can be wrong with them.
own='^/v1/|^/beta/|^/api/v1/(pipelines?|session)/'
same='^/v1/streams/\{id\}$|^/beta/|/params$'
tries coverage,fuzzing 4 positive_data_acceptance --include-path-regex "$own" --exclude-path-regex "$same"
tries fuzzing 8 positive_data_acceptance --include-path-regex "$same"
tries coverage,fuzzing 4 positive_data_acceptance,negative_data_rejection \
    --exclude-path-regex "$own|/control\$|/publish\$|/view\$|/mjpeg\$"
answers 200 GET /health
is '.status == "ok"'
never serve.log CRITICAL
