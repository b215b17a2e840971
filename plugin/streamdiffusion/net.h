/* net.h - what all networks share: watching their blocks, and a few tensor idioms.
 *
 * A network is a struct of weights, built once by xxx_open from a weights set and a config, and
 * forward functions that are straight lines of K_CALL. It holds no activations, so any number of
 * contexts may run it at once. Results go into tensors that the caller took, as in kernels.h;
 * everything else is taken from the context's arena and given back before the function returns.
 */
#ifndef SD_NET_H
#define SD_NET_H

#include "kernels/kernels.h"

/* Called with the output of every block under diffusers' name of the block
 * ("down_blocks.0.resnets.1"). The tensor is valid during the call only. Not called while
 * planning or after a failure. */
typedef struct net_tap {
    void (*see)(void *ctx, const char *name, k_tensor x);
    void *ctx;
} net_tap;

/* Show x to the tap, which may be NULL. */
__attribute__((format(printf, 4, 5))) void net_see(const k_ctx *k, const net_tap *tap, k_tensor x,
                                                   const char *name, ...);

/* "down_blocks.0.resnets.1", as a value: a name under construction. */
typedef struct net_name {
    char text[160];
} net_name;
__attribute__((format(printf, 1, 2))) net_name net_name_of(const char *format, ...);

/* A tensor of activations with x's n, h and w, and c channels. */
k_tensor net_like(k_ctx *k, k_tensor x, int c);
/* Image i of x as a tensor of its own. */
k_tensor net_image(k_tensor x, int i);

#endif
