#!/bin/bash
# The layers of the design, enforced: who includes what, what each library exports and links, and
# how long files and functions may be.
cd "$SRC" || exit 1
bad=0
say() { echo "$*"; bad=1; }

# includes FOLDER ALLOWED-REGEX: every #include of the folder's files must match.
includes() {
    local wrong
    wrong=$(git ls-files "$1" | grep -E '\.(c|h|cu|cuh)$' |
        xargs -r grep -nHoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]*[>"]' |
        sed -E 's/[[:space:]]*#[[:space:]]*include[[:space:]]*/\t/' | awk -F'\t' -v ok="$2" '$2 !~ ok')
    [ -z "$wrong" ] || say "includes that their layer may not have:"$'\n'"$wrong"
}
own='^"[a-z0-9_]+(\.[a-z0-9_]+)*\.(h|inc|cuh)"' # a file beside it
libc='^<(assert|ctype|dirent|dlfcn|elf|errno|fcntl|float|ftw|glob|inttypes|limits|link|locale|malloc|math|pthread|poll|sched|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|string|strings|termios|time|unistd|wordexp|sys/[a-z]+)\.h>'
includes kernels "$own|$libc|^\"(\.\./)+(kernels|philox|backend|cpu/[a-z_]+|simd/[a-z_]+)\.h\"|^\"(cpu|simd)/[a-z_]+\.h\"|^<(omp|immintrin|arm_neon|dnnl|dnnl_debug|dnnl_version|oneapi/dnnl/[a-z_]+)\.h>|^<cuda"
includes schema "$own|$libc|^<jansson\.h>|^\"\.\./plugin/scope_abi\.h\""
includes plugin/streamdiffusion "$own|$libc|^\"scope_plugin\.h\"|^\"kernels/kernels\.h\"|^\"\.\./\.\./kernels/kernels\.h\"|^<(jansson|utf8proc)\.h>"
includes host "$own|$libc|^<(jansson|curl/curl|glib|glib-[a-z]+|glib/[a-z]+|netdb|netinet/[a-z]+|arpa/inet|ifaddrs|net/if|linux/sockios|gio/[a-z]+|gst/[a-z/-]+|microhttpd|wslay/wslay|lo/lo|gnutls/[a-z0-9]+)\.h>|^\"(\.\./)+plugin/scope_(abi|plugin)\.h\"|^\"(\.\./)+schema/schema\.h\"|^\"(\.\./)*((media|worker|live|http|osc)/)?[a-z_]+\.h\""
includes examples "^\"scope_plugin\.h\"|$libc"
includes plugin/scope_abi.h '^<stdint\.h>'
includes plugin/scope_plugin.h '^"scope_abi\.h"|^<(stdarg|stdio|string)\.h>'

for so in "$PLUGINS"/*.so; do
    exported=$(nm -D --defined-only "$so" | awk '$2 ~ /[A-Z]/ {print $3}' | grep -vE '^(_init|_fini|__asan|__ubsan|__odr_asan.*)')
    [ "$exported" = scope_entry ] || say "$so exports: $exported (one symbol is allowed: scope_entry)"
    readelf -d "$so" | grep NEEDED | grep -E 'cuda|cudnn|cublas|gst|libgtk' && say "$so links what it may not"
done
readelf -d "$SCOPE" | grep NEEDED | grep -E 'cuda|cudnn|cublas|dnnl' && say "the host links a compute library"

# Sizes: 600 lines is the aim, 900 the limit; a function fits a screen.
while read -r file; do
    n=$(wc -l <"$file")
    [ "$n" -le 900 ] || say "$file: $n lines (900 is the limit)"
    awk -v f="$file" '
        /^[A-Za-z_].*\)$/ || /^[A-Za-z_].*\) *\{$/ { name = $0; start = NR }
        /^\{$/ { if (!start) start = NR }
        /^\}$/ { if (start && NR - start > 75) { print f ":" start ": function of " NR - start " lines: " name; bad = 1 } start = 0 }
        END { exit bad }' "$file" || bad=1
done < <(git ls-files 'host/*.[ch]' 'schema/*.[ch]' 'plugin/*.[ch]' 'kernels/*.[ch]' 'kernels/*.cu' 'kernels/*.cuh' 'examples/*.[ch]')
while read -r file; do
    n=$(wc -l <"$file")
    [ "$n" -le 80 ] || say "$file: an example is at most 80 lines, this has $n"
done < <(git ls-files 'examples/*/*.c')
git ls-files | grep -E '\.(o|so|a|pyc|log|orig|rej)$' && say "generated files are tracked"
exit $bad
