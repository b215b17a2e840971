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
