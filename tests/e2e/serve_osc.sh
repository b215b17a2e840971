#!/bin/bash
# OSC: every parameter is an address, typed and in range; changes are told to who subscribed, whoever made
# them; without a browser. python-osc is the controller.
. "$SRC/tests/e2e/lib.sh"
osc_port=$(python3 -c 'import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
serve --osc-port "$osc_port" --plugin color
id=$(api GET /api/v1/streams | jq -r '.streams[0].id')
# say LINE...: send; hear LINE...: send, and keep what comes back in the file heard
hear() { say "$@" '?' >heard; }
say() { printf '%s\n' "$@" | timeout 20 "$TOOLS/venv/bin/python" "$SRC/tests/clients/osc.py" "$osc_port"; }
value() { api GET "/api/v1/streams/$id" | jq -e ".chain[0].values.$1 == $2" >/dev/null; }
await 20 sh -c "curl -s $URL/api/v1/streams | jq -e '.streams[0].state | IN(\"online\", \"offline\")'"

hear /scope/list
says heard '/scope/param "/scope/speed" "number"' '"0..4"'
number=speed
say "/scope/$number 0.7"
await 5 value "$number" 0.7
say "/scope/org.example.color/$number 0.2" # the plugin by its id
await 5 value "$number" 0.2
say "/scope/$id/0/$number 0.3" # the stream and the link
await 5 value "$number" 0.3
say "bundle /scope/$number 0.4"
await 5 value "$number" 0.4

# refused, with the reason: out of range, of another type, unknown; and the value stays
hear "/scope/$number 99"
says heard '/scope/error' "/scope/$number"
hear "/scope/$number \"blue\""
says heard '/scope/error'
hear '/scope/nothing 1' '/elsewhere 1'
says heard 'no plugin of the stream has this parameter' 'begin with /scope/'
value "$number" 0.4 || fail "a refused value is in force: $(cat api.out)"

# what is no OSC harms nothing: odd sizes, no end, a bundle that is longer than its packet, nested ones
say "raw 2f" "raw 2f73636f" 'raw 2362756e646c6500' 'raw 2362756e646c6500000000000000000100000fff' "/scope/$number 0.5"
await 5 value "$number" 0.5

# feedback: changes by REST and by others are told, unchanged ones are not
(printf '/scope/subscribe\n'; sleep 1; curl -s -X PATCH -H 'Content-Type: application/json' -d "{\"values\": {\"$number\": 0.9}}" \
    "$URL/api/v1/streams/$id/links/0" >/dev/null; printf '?\n') |
    timeout 20 "$TOOLS/venv/bin/python" "$SRC/tests/clients/osc.py" "$osc_port" >heard
says heard "/scope/$number 0.9"
[ "$(grep -c "^/scope/" heard)" = 1 ] || fail "more was told than changed: $(cat heard)"
answers 200 GET /metrics
says api.out 'scope_osc_messages_total' 'scope_osc_subscribers 1'

# one who subscribed for another port of its host ends that, too, and is counted no more
say '/scope/subscribe 9999'
await 5 sh -c "curl -s $URL/metrics | grep -q 'scope_osc_subscribers 2'"
say '/scope/unsubscribe 9999'
await 5 sh -c "curl -s $URL/metrics | grep -q 'scope_osc_subscribers 1'"

# the port is in use
complains 1 "the OSC port $osc_port" "$SCOPE" serve --port 0 --osc-port "$osc_port" --data "$TMP/other"
run 1 "$SCOPE" serve --port 0 --osc-port "$osc_port" --data "$TMP/other" --check
says err "the OSC port $osc_port"
