/* complete.c - `scope complete`: completion scripts, and the words they ask for.
 *
 * A script knows nothing: it calls `scope complete --words WORD...`, the last word being the one
 * under the cursor. Flags are read from the help text of the command that is being typed, which has
 * a plugin's own flags too; so nothing is listed twice.
 */
#include "child.h"
#include "command.h"
#include "error.h"
#include "registry.h"

#include <string.h>

enum { HELP_LIMIT_MS = 5000 };

static const char bash[] =
    "_scope() {\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY=($(\"$1\" complete --words \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
    "}\n"
    "complete -o bashdefault -o default -F _scope scope\n";

static const char zsh[] =
    "#compdef scope\n"
    "_scope() {\n"
    "    local -a found\n"
    "    found=(\"${(@f)$($words[1] complete --words \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
    "    if [[ -n $found ]]; then compadd -a found; else _files; fi\n"
    "}\n"
    "compdef _scope scope\n";

static const char fish[] =
    "complete -c scope -a '(scope complete --words (commandline -opc)[2..-1] "
    "(commandline -ct) 2>/dev/null)'\n";

typedef struct line {
    char **words; /* borrowed; without the "=" that bash splits off */
    int count;
    const char *typed; /* the last word */
} line;

static void offer(const line *l, const char *word)
{
    if (g_str_has_prefix(word, l->typed))
        puts(word);
}

static const char *last_part(const char *id)
{
    const char *dot = strrchr(id, '.');
    return dot ? dot + 1 : id;
}

/* The value that follows `flag` after word `from`, or NULL; *at is where it stands. */
static const char *value_of(const line *l, const char *flag, int *at)
{
    size_t length = strlen(flag);
    for (int i = *at + 1; i < l->count - 1; i++) {
        const char *w = l->words[i];
        *at = i;
        if (!strcmp(w, flag) && i + 1 < l->count - 1)
            return l->words[i + 1];
        if (!strncmp(w, flag, length) && w[length] == '=')
            return w + length + 1;
    }
    *at = l->count;
    return NULL;
}

static registry *scan(const line *l)
{
    int at = 0;
    return registry_scan(value_of(l, "--plugin-dir", &at));
}

/* Short names, or whole ids once that is what is being typed. */
static void offer_plugins(const line *l)
{
    registry *r = scan(l);
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->fault)
            continue;
        bool shorter = g_str_has_prefix(last_part(e->id), l->typed);
        offer(l, shorter ? last_part(e->id) : e->id);
    }
    registry_free(r);
}

/* The first "--flag" of each indented line of a help text that begins with one. */
static void offer_flags_of(const line *l, const char *help)
{
    char **lines = g_strsplit(help, "\n", -1);
    for (char **text = lines; *text; text++) {
        bool indented = **text == ' ';
        char *start = g_strchug(*text);
        char *flag = start[0] == '-' && indented ? strstr(start, "--") : NULL;
        if (!flag)
            continue;
        flag[2 + strspn(flag + 2, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] = '\0';
        offer(l, flag);
    }
    g_strfreev(lines);
}

static void offer_flags(const line *l)
{
    GPtrArray *args = g_ptr_array_new();
    g_ptr_array_add(args, l->words[0]);
    static const char *const kept[] = {"--plugin", "-p", "--plugin-dir"};
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        const char *value;
        for (int at = 0; (value = value_of(l, kept[i], &at));) {
            g_ptr_array_add(args, (char *)kept[i]);
            g_ptr_array_add(args, (char *)value);
        }
    }
    g_ptr_array_add(args, (char *)"--help");
    g_ptr_array_add(args, NULL);
    const char *const *list[] = {(const char *const *)args->pdata};
    child_report report;
    child_run_all(list, 1, HELP_LIMIT_MS, &report);
    if (report.code == EXIT_GOOD)
        offer_flags_of(l, report.out->str);
    child_report_clear(&report);
    g_ptr_array_unref(args);
}

/* The choices of the parameter `flag`, in whichever plugin of the line has it. */
static void offer_values(const line *l, const char *flag)
{
    char why[256], *name = g_strdelimit(g_strdup(flag + 2), "-", '_');
    registry *r = scan(l);
    const char *id;
    for (int at = 0; (id = value_of(l, "--plugin", &at));) {
        schema_error err;
        const registry_entry *e = registry_find(r, id, why);
        schema *s = e ? schema_parse(e->schema, &err) : NULL;
        const schema_field *f = s ? schema_find(s, name) : NULL;
        for (size_t i = 0; f && i < json_array_size(f->choices); i++) {
            json_t *choice = json_array_get(f->choices, i);
            char *text = json_is_string(choice) ? g_strdup(json_string_value(choice))
                                                : json_dumps(choice, JSON_ENCODE_ANY);
            offer(l, text);
            free(text);
        }
        if (f && f->type == SCOPE_BOOL) {
            offer(l, "true");
            offer(l, "false");
        }
        schema_free(s);
    }
    registry_free(r);
    g_free(name);
}

static void offer_words(const line *l)
{
    const char *prev = l->count > 1 ? l->words[l->count - 2] : "";
    const char *sub = l->words[0];
    bool topics = !strcmp(sub, "help") && l->count == 2;
    if (l->count == 1 || topics) {
        for (const command *c = commands; c->name; c++)
            offer(l, c->name);
        for (const help_topic *t = help_topics; t->name && topics; t++)
            offer(l, t->name);
    } else if (!command_find(sub)) {
        return;
    } else if (!strcmp(prev, "--plugin") || !strcmp(prev, "-p")) {
        offer_plugins(l);
    } else if (l->typed[0] == '-') {
        offer_flags(l);
    } else if ((!strcmp(sub, "schema") || !strcmp(sub, "doc")) && l->count == 2) {
        offer_plugins(l);
    } else if (!strcmp(sub, "complete") && l->count == 2) {
        offer(l, "bash");
        offer(l, "zsh");
        offer(l, "fish");
    } else if (!strncmp(prev, "--", 2)) {
        offer_values(l, prev);
    }
}

int command_complete(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--words")) {
        line l = {argv + 2, 0, ""};
        for (int i = 2; i < argc; i++) {
            bool equals = !strcmp(argv[i], "=") && l.count > 0;
            if (!equals)
                l.words[l.count++] = argv[i];
            else if (i + 1 == argc)
                l.words[l.count++] = argv[i] + 1; /* nothing is typed after it yet */
        }
        l.typed = l.words[l.count - 1];
        offer_words(&l);
        return EXIT_GOOD;
    }
    const char *shell = argc == 2 ? argv[1] : "";
    const char *script = !strcmp(shell, "bash")   ? bash
                         : !strcmp(shell, "zsh")  ? zsh
                         : !strcmp(shell, "fish") ? fish
                                                  : NULL;
    if (!strcmp(shell, "--help") || !strcmp(shell, "-h")) {
        puts("Usage:\n  scope complete bash|zsh|fish\n\n"
             "Prints a script that completes commands, plugins, flags and values. For bash:\n"
             "  eval \"$(scope complete bash)\"");
        return EXIT_GOOD;
    }
    if (!script)
        return complain(EXIT_USAGE, "name a shell: scope complete bash, zsh or fish");
    fputs(script, stdout);
    return EXIT_GOOD;
}
