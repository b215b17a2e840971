/* passthrough - nothing at all, as fast as possible: what is left is the cost of the host. */
#include "scope_plugin.h"

static const char schema[] = SCOPE_JSON({
    "title": "Pass through",
    "description": "Leaves the picture as it is.",
    "properties": {}
});

static int pass_init(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                     scope_error *err)
{
    (void)host, (void)kw, (void)want, (void)self, (void)err;
    return SCOPE_OK;
}

static int pass_process(void *self, const scope_kwargs *kw, const scope_video *in, scope_video *out,
                        scope_error *err)
{
    (void)self, (void)kw, (void)err;
    *out = *in; /* the input's own data: unchanged */
    return SCOPE_OK;
}

static void pass_fini(void *self)
{
    (void)self;
}

static const scope_plugin pass = {
    .id = "org.example.passthrough",
    .version = "1.0.0",
    .schema = schema,
    .init = pass_init,
    .process = pass_process,
    .fini = pass_fini,
};
SCOPE_LIBRARY(&pass);
