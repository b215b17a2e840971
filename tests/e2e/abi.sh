#!/bin/bash
# The public headers compile by themselves, as C11 and as C++, without a warning.
. "$SRC/tests/e2e/lib.sh"
for header in scope_abi.h scope_plugin.h; do
    echo "#include \"$header\"" >one.c
    "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$SRC/plugin" -c -o one.o one.c ||
        fail "$header does not compile by itself as C11"
done
cat >plugin.cpp <<'END'
#include "scope_plugin.h"
static int init(const scope_host *, const scope_kwargs *, scope_video *, void **, scope_error *) { return SCOPE_OK; }
static int process(void *, const scope_kwargs *kw, const scope_video *in, scope_video *out, scope_error *err)
{
    if (scope_num(kw, "x") < 0)
        return scope_fail(err, SCOPE_EINVAL, "x is %g; make it positive", scope_num(kw, "x"));
    *out = *in;
    return SCOPE_OK;
}
static void fini(void *) {}
static const scope_plugin plugin = {"org.test.cpp", "1.0.0", R"({"title": "C++", "properties": {}})",
                                    init, process, nullptr, fini, nullptr};
SCOPE_LIBRARY(&plugin);
END
command -v c++ >/dev/null || { echo "no C++ compiler: the headers were compiled as C only"; exit 77; }
c++ -std=c++11 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared -I"$SRC/plugin" -o cpp.so plugin.cpp ||
    fail "the headers do not compile as C++11"
run 0 "$SCOPE" check cpp.so
