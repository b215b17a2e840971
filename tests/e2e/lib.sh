# lib.sh - a few words that the end-to-end tests share; sourced, with TMP as the working folder.
set -u

fail() {
    echo "FAIL: $*"
    exit 1
}

# run CODE COMMAND...: the exit code must be CODE; stdout and stderr are left in the files out and err.
run() {
    local code=$1 rc=0
    shift
    "$@" >out 2>err || rc=$?
    [ "$rc" = "$code" ] || fail "$* exited with $rc, not $code: $(cat out err)"
}

# says FILE TEXT...: each text must be in the file.
says() {
    local file=$1 text
    shift
    for text in "$@"; do
        grep -qF -- "$text" "$file" || fail "not said: '$text', in: $(cat "$file")"
    done
}

# never FILE TEXT: the text must not be in the file.
never() {
    ! grep -qF -- "$2" "$1" || fail "said, but should not be: '$2', in: $(cat "$1")"
}

# complains CODE TEXT COMMAND...: fails with CODE and exactly one line on stderr, "scope: ...TEXT...".
complains() {
    local code=$1 text=$2
    shift 2
    run "$code" "$@"
    [ "$(wc -l <err)" = 1 ] || fail "$* did not say one line: $(cat err)"
    grep -q '^scope: ' err || fail "$* does not speak as scope: $(cat err)"
    says err "$text"
}

# await SECONDS COMMAND...: until the command succeeds.
await() {
    local limit=$1 end=$((SECONDS + $1))
    shift
    until "$@" >await.out 2>&1; do
        [ "$SECONDS" -le "$end" ] || fail "not within $limit s: $* ($(tail -c 500 await.out)) $(tail -n 20 serve.log 2>/dev/null)"
        sleep 0.1
    done
}

# serve FLAG...: a server on free ports, ended with the test; sets URL, PORT and SERVER, its process.
serve() {
    rm -f serve.out
    "$SCOPE" serve --port 0 --osc-port 0 --data "$TMP/data" "$@" >serve.out 2>serve.log &
    SERVER=$!
    trap end_server EXIT
    await 30 grep -q ' serves ' serve.out
    URL=$(sed -n 's|.* serves \(http[^ ]*\)/$|\1|p' serve.out)
    PORT=${URL##*:}
}
# Ends it as a person would, and fails when that does not go well.
end_server() {
    local rc=$?
    trap - EXIT
    kill -TERM "$SERVER" 2>/dev/null
    for _ in $(seq 200); do kill -0 "$SERVER" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$SERVER" 2>/dev/null && { echo "FAIL: the server did not end"; rc=1; }
    wait "$SERVER" || { echo "FAIL: the server ended with $?"; tail -n 30 serve.log; rc=1; }
    [ "$rc" = 0 ] || tail -n 30 serve.log
    exit $rc
}
# api METHOD PATH [JSON]: the answer's body on stdout, its status in the file api.status.
api() {
    curl -sS -m 30 -o api.out -w '%{http_code}' -X "$1" ${3:+-H 'Content-Type: application/json' --data-binary "$3"} "$URL$2" >api.status
    cat api.out
}
# answers STATUS METHOD PATH [JSON]: like api, and the status must be this.
answers() {
    local want=$1
    shift
    api "$@" >/dev/null
    [ "$(cat api.status)" = "$want" ] || fail "$* answered $(cat api.status), not $want: $(cat api.out)"
}
# is FILTER: the last answer fulfils this jq filter.
is() {
    jq -e "$1" api.out >/dev/null || fail "not so: $1, in: $(cat api.out)"
}
