/* command.c - the one table of subcommands: dispatch, usage, help and completion read it. */
#include "command.h"

#include <string.h>

const command commands[] = {
    {"run", command_run, "put a video through plugins, or let a generator make one"},
    {"serve", command_serve, "live streams: a page with controls, APIs, cameras in, pictures out"},
    {"list", command_list, "the plugins there are"},
    {"schema", command_schema, "the parameters of a plugin, as JSON"},
    {"doc", command_doc, "the manual page of a plugin, as Markdown"},
    {"model", command_model, "look at a model's file, or download one"},
    {"check", command_check, "judge a plugin's library as a store would"},
    {"bench", command_bench, "the time a plugin takes per frame"},
    {"complete", command_complete, "a completion script for bash, zsh or fish"},
    {"help", command_help, "more about a command or a topic"},
    {0, 0, 0},
};

const command *command_find(const char *name)
{
    for (const command *c = commands; c->name; c++) {
        if (!strcmp(c->name, name))
            return c;
    }
    return 0;
}
