#!/bin/bash
# build.sh DIR FAULT...: build DIR/FAULT.so for each fault named, from faulty.c and the public
# headers. Faults in what a plugin does are strings in faulty.c; those in what it is are made here.
# "controls" is no fault, but controls.c: a plugin with a parameter of every kind.
set -e
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
shift
mkdir -p "$dir"
for fault in "$@"; do
    flags=()
    source=faulty.c
    case $fault in
    not_elf) echo "this is no library" >"$dir/$fault.so"; continue ;;
    empty) : >"$dir/$fault.so"; continue ;;
    controls) source=controls.c ;;
    wrong_abi) flags=(-DABI=77u) ;;
    no_symbol) flags=(-DNO_SYMBOL -Wno-unused-function) ;;
    two_symbols) flags=(-DEXTRA_SYMBOL) ;;
    two_plugins) flags=(-DTWO_PLUGINS) ;;
    late_batch) flags=(-DBATCH=2) ;;
    no_process) flags=(-DNO_PROCESS -Wno-unused-function) ;;
    bad_id) flags=('-DID="Not An Id"') ;;
    duplicate) flags=('-DID="org.test.good"') ;;
    other_owner) flags=('-DID="com.other.good"') ;;
    bad_schema) flags=('-DSCHEMA="{\"properties\": {\"x\": {\"type\": \"number\", \"defualt\": 1}}}"') ;;
    replans) flags=('-DSCHEMA="{\"properties\": {\"width\": {\"type\": \"integer\", \"default\": 8}}}"') ;;
    not_json) flags=('-DSCHEMA="{title: nothing"') ;;
    esac
    "${CC:-cc}" -std=gnu11 -O1 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden \
        -I"$here/../../plugin" "-DFAULT=\"$fault\"" "${flags[@]}" -o "$dir/$fault.so" "$here/$source"
done
