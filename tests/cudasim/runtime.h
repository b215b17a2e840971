/* runtime.h - what the two halves of the stand-in for libcudart share: its state, and how a call
 * begins. runtime.cpp: memory, streams, launches, graphs; device.cpp: code, the device, tests. */
#pragma once
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "cudasim.h"
#include "sim.h"

struct Stream;
typedef std::function<void(Stream &)> Work;
struct Capture {
    vector<Work> nodes;
    std::thread::id thread;
    cudaStreamCaptureMode mode;
    bool invalid;
};
struct Stream {
    std::deque<Work> queue;
    u64 queued, ran;
    bool blocking;
    std::shared_ptr<Capture> capture;
    u32 chain; /* id of the first block of the launches that may still overlap */
};
struct Event {
    std::shared_ptr<Stream> stream;
    u64 ticket;
    std::shared_ptr<double> time; /* ms, when it ran */
    std::shared_ptr<Capture> capture;
};
struct Binary { /* an object's device code */
    const char *ptx;
    size_t size;
    int arch;
    bool parsed;
    Module module;
};
struct Named {
    Binary *binary;
    string name;
};
struct Failure {
    int after;
    cudaError_t error;
};
struct State {
    std::recursive_mutex lock;
    std::map<cudaStream_t, std::shared_ptr<Stream>> streams;
    std::map<const void *, Named> functions, variables; /* by host address */
    std::map<const void *, std::unique_ptr<Kernel>> kernels;
    std::map<string, u64> counts;
    std::map<string, Failure> failures;
    cudaError_t sticky;
    string fault;
    std::set<Capture *> captures;
};
/* Never destroyed, and made by the first registration, which runs before constructors. */
inline State &state(void)
{
    static State *s = new State();
    return *s;
}
inline thread_local cudaError_t last_error;

inline int number_from(const char *variable, int otherwise)
{
    const char *s = getenv(variable);
    return s && *s ? atoi(s) : otherwise;
}

inline int arch(void)
{
    static int a = number_from("CUDASIM_ARCH", 80);
    return a;
}

/* Launches are counted, but nothing runs: for timing the host. Pictures are what they were. */
inline bool skips(void)
{
    static bool s = number_from("CUDASIM_SKIP", 0);
    return s;
}

inline size_t memory_limit(void)
{
    static size_t mb = number_from("CUDASIM_MEMORY_MB", 8192);
    return mb << 20;
}

inline cudaError_t done(cudaError_t e)
{
    if (e)
        last_error = e;
    return e;
}

inline bool sticks(cudaError_t e)
{
    return e == cudaErrorLaunchFailure || e == cudaErrorIllegalAddress;
}

/* Begins each call: counts it, and finds what makes it fail whatever its arguments. */
struct Call {
    std::lock_guard<std::recursive_mutex> guard;
    cudaError_t error;
    explicit Call(const char *name) : guard(state().lock), error(state().sticky)
    {
        state().counts[name]++;
        auto f = state().failures.find(name);
        if (f != state().failures.end() && f->second.after-- == 0) {
            error = f->second.error;
            state().failures.erase(f);
            if (sticks(error))
                state().sticky = error;
        }
        done(error);
    }
};
#define REFUSE(condition, error)                                                                   \
    if (condition)                                                                                 \
    return done(error)
/* A call of the runtime: its name, parameters, and what it does when nothing is wrong before. */
#define API(name, parameters, ...)                                                                 \
    extern "C" cudaError_t name parameters                                                         \
    {                                                                                              \
        Call call(#name);                                                                          \
        if (call.error)                                                                            \
            return call.error;                                                                     \
        __VA_ARGS__;                                                                               \
        return cudaSuccess;                                                                        \
    }
/* The same of one that gives back what the host holds, which a lost device does not hinder. */
#define GIVE_BACK(name, parameters, ...)                                                           \
    extern "C" cudaError_t name parameters                                                         \
    {                                                                                              \
        Call call(#name);                                                                          \
        if (call.error && !sticks(call.error))                                                     \
            return call.error;                                                                     \
        __VA_ARGS__;                                                                               \
        return call.error;                                                                         \
    }
/* Another name for it. */
#define SAME(name, parameters, call)                                                               \
    extern "C" cudaError_t name parameters                                                         \
    {                                                                                              \
        return call;                                                                               \
    }
inline size_t shared_limit(void) /* that a block may ask for */
{
    int kb = arch() >= 90 ? 227 : arch() > 80 ? 99 : arch() == 80 ? 163 : 64;
    return (size_t)kb << 10;
}

Module &module_of(Binary *b);
/* The decoded kernel of a host function; null if the device has no code for it. */
Kernel *kernel_of(const void *host);
