/* resnet.c - see resnet.h. */
#include "resnet.h"

resnet resnet_of(weights *w, const char *name, int in, int out, resnet_norm norm, int time_channels)
{
    resnet r = {.in = in, .out = out, .norm = norm};
    r.norm1 = weights_norm(w, net_name_of("%s.norm1", name).text, in);
    r.conv1 = weights_conv(w, net_name_of("%s.conv1", name).text, out, in, 3, 1);
    r.norm2 = weights_norm(w, net_name_of("%s.norm2", name).text, out);
    r.conv2 = weights_conv(w, net_name_of("%s.conv2", name).text, out, out, 3, 1);
    if (time_channels)
        r.time =
            weights_linear(w, net_name_of("%s.time_emb_proj", name).text, out, time_channels, 1);
    if (in != out)
        r.shortcut = weights_conv(w, net_name_of("%s.conv_shortcut", name).text, out, in, 1, 1);
    return r;
}

void resnet_forward(k_ctx *k, const resnet *r, k_tensor y, k_tensor x, k_tensor time)
{
    size_t mark = k_mark(k);
    k_tensor a = net_like(k, x, r->out);
    size_t inner = k_mark(k);
    k_tensor normed = net_like(k, x, r->in);
    K_CALL(k, group_norm, normed, x, r->norm1, r->norm.groups, r->norm.eps, r->norm.act);
    K_CALL(k, conv, a, normed, r->conv1, &(k_conv){.row = time});
    k_release(k, inner);

    k_tensor b = net_like(k, x, r->out);
    K_CALL(k, group_norm, b, a, r->norm2, r->norm.groups, r->norm.eps, r->norm.act);
    k_tensor kept = x;
    if (r->shortcut) { /* a is free again: the shortcut takes its place */
        K_CALL(k, conv, a, x, r->shortcut, &(k_conv){0});
        kept = a;
    }
    K_CALL(k, conv, y, b, r->conv2, &(k_conv){.residual = kept});
    k_release(k, mark);
}
