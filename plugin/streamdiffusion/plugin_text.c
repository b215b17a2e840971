/* plugin_text.c - see plugin_text.h. */
#include "plugin_text.h"

static int is(const scope_kwargs *kw, const char *name, const char *value)
{
    return !strcmp(scope_str(kw, name), value);
}

/* The fields of an object as parameters. */
static scope_kwargs inside(const scope_value *object)
{
    return (scope_kwargs){.count = object->count, .at = object->u.at};
}

static void read_prompts(prompt_blend *b, const scope_value *list)
{
    for (int i = 0; i < list->count && i < PROMPT_MAX; i++) {
        const scope_kwargs one = inside(&list->u.at[i]);
        b->text[i] = scope_str(&one, "text");
        b->weight[i] = scope_num(&one, "weight");
        b->count++;
    }
}

static int easing_of(const scope_kwargs *kw)
{
    static const char *const names[] = {[EASE_LINEAR] = "linear",
                                        [EASE_IN] = "ease_in",
                                        [EASE_OUT] = "ease_out",
                                        [EASE_IN_OUT] = "ease_in_out"};
    int easing = EASE_IN_OUT;
    while (easing > EASE_LINEAR && !is(kw, "transition_easing", names[easing]))
        easing--;
    return easing;
}

int plugin_text(pipeline_settings *s, const scope_kwargs *kw, styles *looks, scope_error *err)
{
    const scope_kwargs own = inside(scope_get(kw, "transition"));
    const scope_value *target = scope_get(&own, "target_prompts");
    int asked = target->count > 0, steps = (int)scope_int(&own, "num_steps");
    if (steps > 0 && !asked)
        return scope_fail_field(err, SCOPE_EINVAL, "transition",
                                "A transition of %d frames leads nowhere: give target_prompts, or "
                                "leave num_steps at 0.",
                                steps);
    s->prompt = (prompt_blend){.slerp = is(kw, "prompt_interpolation_method", "slerp"),
                               .raw = !scope_int(kw, "normalize_prompt_weights")};
    read_prompts(&s->prompt, asked ? target : scope_get(kw, "prompts"));
    s->negative_prompt = scope_str(kw, "negative_prompt");
    s->negative_scale = scope_num(kw, "negative_prompt_scale");
    s->transition = (conditioning_transition){
        .steps = asked ? steps : (int)scope_int(kw, "transition_steps"),
        .slerp = asked ? is(&own, "method", "slerp") : is(kw, "transition_method", "slerp"),
        .easing = easing_of(kw),
        .asked = asked};
    return styles_apply(looks, scope_str(kw, "style"), &s->prompt, &s->negative_prompt, err);
}
