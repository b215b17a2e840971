/* test_failures.c - a GPU that is lost, and one whose memory ends, at each place where it can: the
 * person is told, nothing leaks, and once there is a GPU again all is well. Kernels do not run
 * (CUDASIM_SKIP).
 */
#include "kernels/kernels.h"
#include "plugin/streamdiffusion/pipeline_state.h"
#include "tests/cudasim/cudasim.h"
#include "tests/unit/streamdiffusion/tiny.h"

#include <cuda_runtime_api.h>

enum { SIDE = 64, BYTES = 3 * SIDE * SIDE };

static const char *dir;
static scope_error err;
static const model *m;
static pipeline *p;
static uint8_t in[BYTES], out[BYTES];

static void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
}

static void teardown(void)
{
    tiny_remove(dir);
}

static int frame(void)
{
    k_image from = {in, K_U8, 1, SIDE, SIDE, 3, BYTES, 3 * SIDE}, to = from;
    to.data = out;
    return pipeline_frame(p, &from, &to, &err);
}

/* A model, a pipeline, and frames until they come from graphs; nonzero: err says why not. */
static int begin(void)
{
    const model_options o = {.path = dir, .taesd = "", .device = "cuda"};
    const pipeline_settings s = {.width = SIDE,
                                 .height = SIDE,
                                 .fit = FIT_CROP,
                                 .use_taesd = 1,
                                 .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                                 .negative_prompt = "",
                                 .steps = 1,
                                 .strength = 0.6,
                                 .do_add_noise = 1,
                                 .guidance_scale = 1,
                                 .delta = 1,
                                 .effects = {.loopback_mix = 1,
                                             .loopback_zoom = 1,
                                             .mask_source = MASK_ALPHA,
                                             .mask_strength = 1,
                                             .similar_threshold = 0.98,
                                             .similar_max_skip = 10}};
    m = model_acquire(NULL, &o, &err);
    p = m ? pipeline_open(m, &err) : NULL;
    int failed = !p || pipeline_set(p, &s, &err);
    for (int t = 0; t < 4 && !failed; t++)
        failed = frame();
    return failed;
}

static const char *const pairs[][2] = {{"cudaStreamCreateWithFlags", "cudaStreamDestroy"},
                                       {"cudaEventCreateWithFlags", "cudaEventDestroy"},
                                       {"cudaGraphInstantiate", "cudaGraphExecDestroy"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };
static unsigned long long living[PAIRS]; /* of each, before */

static unsigned long long alive(int i)
{
    return cudasim_count(pairs[i][0]) - cudasim_count(pairs[i][1]);
}

/* And all of it given back; `before`: of device and host. */
static void end(const unsigned long long before[2], const char *what, int n)
{
    pipeline_close(p);
    if (m)
        model_release(m);
    p = NULL;
    m = NULL;
    for (int host = 0; host < 2; host++)
        ck_assert_msg(cudasim_bytes(host) == before[host], "%s %d: %llu bytes of the %s leak", what,
                      n, cudasim_bytes(host) - before[host], host ? "host" : "device");
    for (int i = 0; i < PAIRS; i++)
        if (strcmp(pairs[i][0], what))
            ck_assert_msg(alive(i) == living[i], "%s %d: %s", what, n, pairs[i][0]);
}

/* Once without a failure: what stays, stays for good. */
static void measure(unsigned long long bytes[2])
{
    ck_assert_msg(!begin(), "%s", err.text);
    pipeline_close(p);
    model_release(m);
    for (int host = 0; host < 2; host++)
        bytes[host] = cudasim_bytes(host);
    for (int i = 0; i < PAIRS; i++)
        living[i] = alive(i);
}

/* The first call of that name fails, the second, and so on until all has room. */
static int each_in_turn(const char *call)
{
    unsigned long long before[2];
    measure(before);
    for (int n = 0;; n++) {
        unsigned long long calls = cudasim_count(call);
        cudasim_fail_next(call, n, cudaErrorMemoryAllocation);
        int failed = begin(), spared = cudasim_count(call) - calls <= (unsigned)n;
        ck_assert_msg(!failed || (strstr(err.text, "memory") && err.text[0]), "%s %d: %s", call, n,
                      err.text);
        ck_assert_msg(!failed || strcmp(call, "cudaMalloc") || strstr(err.text, "free"),
                      "%s %d: %s", call, n, err.text);
        if (failed && n < 2)
            printf("%s %d: %s\n", call, n, err.text);
        end(before, call, n);
        cudasim_reset();
        ck_assert_msg(!failed || !spared, "%s: %s", call, err.text);
        if (spared)
            return n;
    }
}

START_TEST(test_memory)
{
    static const char *const calls[] = {"cudaMalloc", "cudaHostAlloc", "cudaMallocHost",
                                        "cudaGraphInstantiate"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        printf("%s: each of %d\n", calls[i], each_in_turn(calls[i]));
}
END_TEST

/* A lost device: the frame says so, those after it too, and a new one works. */
START_TEST(test_lost)
{
    static const char *const calls[] = {"cudaGraphLaunch", "cudaMemcpy2DAsync",
                                        "cudaEventSynchronize"};
    unsigned long long before[2];
    measure(before);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int error = cudaErrorIllegalAddress; error <= cudaErrorLaunchFailure;
             error += cudaErrorLaunchFailure - cudaErrorIllegalAddress) {
            ck_assert_msg(!begin(), "%s", err.text);
            cudasim_fail_next(calls[i], 0, error);
            for (int t = 0; t < 2; t++) {
                ck_assert_msg(frame(), "%s", calls[i]);
                ck_assert_msg(strstr(err.text, "the GPU failed") || t, "%s: %s", calls[i],
                              err.text);
                ck_assert_msg(strstr(err.text, "load the plugin again") || t, "%s: %s", calls[i],
                              err.text);
                printf("%s: %s\n", calls[i], err.text);
            }
            end(before, calls[i], 0);
            cudasim_reset();
        }
    ck_assert_msg(!begin(), "%s", err.text);
    end(before, "", 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("failures");
    TCase *t = tcase_create("failures");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_lost);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
