/* options.c - the flags of a subcommand; see options.h. */
#include "options.h"
#include "error.h"

#include <string.h>

bool options_parse(const options *o, int *argc, char **argv)
{
    char *name = g_strdup_printf("scope %s", argv[0]);
    GError *why = NULL;
    bool good = false;
    g_set_prgname(name);
    GOptionContext *context = g_option_context_new(o->arguments);
    g_option_context_set_summary(context, o->summary);
    g_option_context_add_main_entries(context, o->entries, NULL);
    if (!g_option_context_parse(context, argc, &argv, &why)) {
        complain(0, "%s; `%s --help` lists what there is", why->message, name);
        g_error_free(why);
    } else if (*argc - 1 < o->least || *argc - 1 > o->most) {
        complain(0, "%s arguments for `%s %s`", *argc - 1 < o->least ? "too few" : "too many", name,
                 o->arguments ? o->arguments : "");
    } else {
        good = true;
    }
    g_option_context_free(context);
    g_free(name);
    return good;
}
