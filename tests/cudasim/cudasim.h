/* cudasim.h - what a test may ask of the simulated CUDA runtime, beside the CUDA calls themselves.
 */
#ifndef CUDASIM_H
#define CUDASIM_H

#ifdef __cplusplus
extern "C" {
#endif

struct cudasim_kernel {
    const char *name;                          /* demangled, without its arguments */
    unsigned long long launches, instructions; /* instructions of warps */
    unsigned long long mma;                    /* matrix instructions of warps */
    unsigned long long passes, passes_ideal;   /* of shared memory: more than ideal = conflicts */
    unsigned long long sectors, sectors_ideal; /* of global memory: more than ideal = scattered */
};

/* The call of that name that follows `after` good ones fails with `error`. 719 (launch failure) and
 * 700 (illegal address) stick, as when a device is lost. */
void cudasim_fail_next(const char *call, int after, int error);
/* How often a call was made, failures included. */
unsigned long long cudasim_count(const char *call);
/* Bytes that are allocated, on the device or of pinned memory. */
unsigned long long cudasim_bytes(int host);
/* Calls back for each registered kernel, launched or not. */
void cudasim_kernels(void (*each)(const struct cudasim_kernel *kernel, void *user), void *user);
/* What the last fault said; "" if there was none. */
const char *cudasim_fault(void);
/* Forgets faults, sticky errors and planned failures, and drops queued work; memory stays. */
void cudasim_reset(void);

#ifdef __cplusplus
}
#endif
#endif
