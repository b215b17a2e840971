/* cublaslt.c - products of plain rows by cuBLASLt: y = act(x w' + residual + bias).
 *
 * Its matrices go column by column, so ours are transposed to it: y' [out x rows] = w x'.
 */
#include "library.h"

#include <string.h>

static int set_desc(const lt_api *api, const library_shape *s, lt_desc desc)
{
    const int32_t turned = LT_OP_T, straight = LT_OP_N;
    const uint32_t epilogue = (s->bias ? LT_EPILOGUE_BIAS : 0) | (s->relu ? LT_EPILOGUE_RELU : 0);
    const uint32_t none = LT_EPILOGUE_NONE;
    const void *anywhere = (const void *)(uintptr_t)256; /* aligned as biases are; set for runs */
    int status = api->desc_set(desc, LT_DESC_TRANSA, &turned, sizeof turned);
    if (!status)
        status = api->desc_set(desc, LT_DESC_TRANSB, &straight, sizeof straight);
    if (!status)
        status = api->desc_set(desc, LT_DESC_EPILOGUE, epilogue ? &epilogue : &none, sizeof none);
    if (!status && s->bias)
        status = api->desc_set(desc, LT_DESC_BIAS, &anywhere, sizeof anywhere);
    return status;
}

static int set_preference(const lt_api *api, lt_preference p)
{
    const size_t workspace = LIBRARY_WORKSPACE;
    const uint32_t reduction = LT_REDUCE_IN_FLOAT, align = 16;
    int status = api->preference_set(p, LT_PREF_WORKSPACE, &workspace, sizeof workspace);
    if (!status)
        status = api->preference_set(p, LT_PREF_REDUCTION, &reduction, sizeof reduction);
    for (int i = 0; i < 4 && !status; i++)
        status = api->preference_set(p, LT_PREF_ALIGN_A + i, &align, sizeof align);
    return status;
}

static int make_layouts(const lt_api *api, const library_shape *s, lt_plan *plan)
{
    const int type = s->dtype == K_F16 ? LT_R_16F : LT_R_16BF;
    const uint64_t out = (uint64_t)s->out, c = (uint64_t)s->c, rows = (uint64_t)s->w;
    int status = api->layout_new(&plan->filter, type, c, out, s->depth);
    if (!status)
        status = api->layout_new(&plan->pixels, type, c, rows, s->x_ld);
    if (!status)
        status = api->layout_new(&plan->y, type, out, rows, s->y_ld);
    if (!status)
        status = api->layout_new(&plan->residual, type, out, rows,
                                 s->residual_ld ? s->residual_ld : s->y_ld);
    return status;
}

static void keep_good(lt_plan *plan, const lt_result *found, int count)
{
    for (int i = 0; i < count && plan->count < LT_CANDIDATES; i++) {
        if (!found[i].state && found[i].workspace <= LIBRARY_WORKSPACE)
            plan->result[plan->count++] = found[i];
    }
}

int cuda_lt_plan(const lt_api *api, lt_handle handle, const library_shape *s, lt_plan *plan)
{
    lt_preference preference = NULL;
    lt_result found[LT_CANDIDATES];
    int count = 0;
    memset(plan, 0, sizeof *plan);
    memset(found, 0, sizeof found);
    int status = api->desc_new(&plan->desc, LT_COMPUTE_32F, LT_R_32F);
    if (!status)
        status = set_desc(api, s, plan->desc);
    if (!status)
        status = make_layouts(api, s, plan);
    if (!status)
        status = api->preference_new(&preference);
    if (!status)
        status = set_preference(api, preference);
    if (!status)
        status = api->heuristics(handle, plan->desc, plan->filter, plan->pixels, plan->residual,
                                 plan->y, preference, LT_CANDIDATES, found, &count);
    if (!status)
        keep_good(plan, found, count);
    if (preference)
        api->preference_free(preference);
    if (!plan->count)
        cuda_lt_plan_free(api, plan);
    return plan->count;
}

void cuda_lt_plan_free(const lt_api *api, lt_plan *plan)
{
    lt_layout layouts[4] = {plan->filter, plan->pixels, plan->residual, plan->y};
    for (int i = 0; i < 4; i++) {
        if (layouts[i])
            api->layout_free(layouts[i]);
    }
    if (plan->desc)
        api->desc_free(plan->desc);
    memset(plan, 0, sizeof *plan);
}

int cuda_lt_run(const lt_api *api, lt_handle handle, const lt_plan *plan, int candidate,
                const library_data *at, cudaStream_t stream)
{
    const float one = 1, beta = at->residual ? 1 : 0;
    const lt_result *r = &plan->result[candidate];
    int status = 0;
    if (at->bias)
        status = api->desc_set(plan->desc, LT_DESC_BIAS, &at->bias, sizeof at->bias);
    if (status)
        return status;
    return api->multiply(handle, plan->desc, &one, at->w, plan->filter, at->x, plan->pixels, &beta,
                         at->residual ? at->residual : at->y, plan->residual, at->y, plan->y,
                         &r->algo, at->workspace, r->workspace, stream);
}
