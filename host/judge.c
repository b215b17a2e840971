/* judge.c - the child of `scope check`: what a plugin says of itself, then the trial; see judge.h.
 *
 * Must stay true: what the plugin is being asked is reported before it is asked, so that any end of
 * the process can be blamed on the right call.
 */
#include "judge.h"
#include "child.h"
#include "command.h"
#include "error.h"
#include "library.h"
#include "trial.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reporting ------------------------------------------------------------------------------- */

static void report(const judge *j, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT);
    if (text && write(j->report, text, strlen(text)) > 0)
        (void)!write(j->report, "\n", 1);
    free(text);
    json_decref(line);
}

static json_t *format(const char *fmt, va_list ap)
{
    char *text = g_strdup_vprintf(fmt, ap), *valid = g_utf8_make_valid(text, -1);
    json_t *string = json_string(valid);
    g_free(valid);
    g_free(text);
    return string;
}

void judge_doing(const judge *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(j, json_pack("{so}", "doing", format(fmt, ap)));
    va_end(ap);
    alarm(j->limit_s);
}

void judge_say(const judge *j, const char *verdict, const char *name, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(j, json_pack("{ss ss so}", "verdict", verdict, "name", name, "text", format(fmt, ap)));
    va_end(ap);
}

/* ---- the end of the process ------------------------------------------------------------------ */

static judge *in_court; /* for the signal handler, which has no other way to know */

static void last_word(const char *text)
{
    const char *parts[] = {"{\"crash\": \"", text, "\"}\n"};
    for (int i = 0; i < 3; i++)
        (void)!write(in_court->report, parts[i], strlen(parts[i]));
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    if (signal_number == SIGALRM) {
        last_word("takes longer than --limit allows");
        _exit(EXIT_FAILED);
    }
    const char *why = NULL;
    if (signal_number == SIGSEGV || signal_number == SIGBUS)
        why = guard_explain(in_court->guard, info->si_addr);
    if (why)
        last_word(why);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void catch_signals(judge *j)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGALRM};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static char room[65536]; /* for the handler, when it is the stack that overflowed */
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    in_court = j;
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static bool is_semver(const char *version)
{
    return g_regex_match_simple("^(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)"
                                "(-[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?"
                                "(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?$",
                                version, 0, 0);
}

static void judge_identity(const judge *j, const char *version)
{
    if (is_semver(version))
        judge_say(j, "pass", "identity", "%s %s", j->id, version);
    else
        judge_say(j, "fail", "identity", "\"%s\" is no version; use three numbers, such as 1.0.0",
                  version);
}

/* What a person would miss in front of the controls. */
static int judge_controls(const judge *j, const schema_field *fields, int count)
{
    int faults = 0;
    GHashTable *orders = g_hash_table_new(NULL, NULL),
               *labels = g_hash_table_new(g_str_hash, g_str_equal);
    for (int i = 0; i < count; i++) {
        const schema_field *f = &fields[i];
        const char *what = NULL;
        if (!f->description[0])
            what = "has no description";
        else if (f->ui.shown && f->ui.order == 999)
            what = "has no ui.order";
        else if (f->ui.shown && !g_hash_table_add(orders, GINT_TO_POINTER(f->ui.order)))
            what = "has the same ui.order as another";
        else if (f->ui.shown && !g_hash_table_add(labels, (char *)f->ui.label))
            what = "has the same label as another";
        if (what)
            judge_say(j, "warn", "schema", "parameter %s %s", f->name, what);
        faults += what != NULL;
    }
    g_hash_table_destroy(orders);
    g_hash_table_destroy(labels);
    return faults;
}

static void judge_schema(const judge *j, const schema *s)
{
    schema_error err;
    int count;
    const schema_field *fields = schema_fields(s, &count);
    scope_kwargs *kw = schema_bind(s, NULL, 1, &err);
    if (!kw)
        judge_say(j, "fail", "schema", "the defaults do not bind: %s: %s", err.path, err.text);
    if (!schema_title(s)[0])
        judge_say(j, "warn", "schema", "the schema has no title for a person to read");
    if (kw && judge_controls(j, fields, count) == 0)
        judge_say(j, "pass", "schema", "%d parameter%s, each bound by default and labelled", count,
                  count == 1 ? "" : "s");
    free(kw);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void judge_plugin(judge *j, const scope_plugin *plugin)
{
    schema_error err;
    judge_identity(j, plugin->version);
    schema *s = schema_parse(plugin->schema, &err);
    if (!s) {
        judge_say(j, "fail", "schema", "%s: %s", err.path, err.text);
        return;
    }
    judge_schema(j, s);
    schema_free(s);
    trial_run(j);
}

int judge_child(const char *path, const char *id, const char *limit, const char *values)
{
    judge j = {.report = child_begin(),
               .limit_s = (unsigned)atoi(limit),
               .path = path,
               .id = id,
               .values = json_loads(values, 0, NULL),
               .guard = guard_new()};
    scope_error err;
    void *handle;
    frame_memory memory = guard_memory(j.guard);
    j.pool = j.guard ? frame_pool_new_in(&memory) : NULL;
    j.plain = frame_pool_new();
    if (!j.pool || !j.plain)
        return complain(EXIT_FAILED, "no memory to judge %s in", path);
    catch_signals(&j);
    judge_doing(&j, "its constructors");
    const scope_library *library = library_open(path, &handle, &err);
    const scope_plugin *plugin = library ? library_find(library, id, &err) : NULL;
    if (plugin)
        judge_plugin(&j, plugin);
    else
        judge_say(&j, "fail", "load", "%s", err.text);
    report(&j, json_pack("{sb}", "done", 1));
    _exit(EXIT_GOOD); /* the system takes it all back */
}
