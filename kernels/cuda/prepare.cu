/* prepare.cu - weights on their way from the file to the device, and into the forms that ops like.
 *
 * The host only copies bytes; the device converts, permutes and adds low-rank changes. Whatever is
 * done here is done in the order of the loader's stream, so pieces need no waits but for pinned
 * memory to be free again.
 */
#include "prepare.h"

#include "launch.cuh"

#include <stdlib.h>

/* Bytes: of a piece of pinned memory; room for factors is a multiple, so that most modules find it.
 */
static const size_t PIECE = 1 << 20, FACTORS = 4 << 20;
enum { PLACE = 256, COLUMNS = 128, ROWS = 8, NORM = 256 };

/* ---- kernels -------------------------------------------------------------------------------- */

/* x within the range of a narrower type; infinity and NaN stay. */
DEVICE float held(float x, int dtype)
{
    const float most = dtype == K_F16 ? 65504.0f : dtype == K_BF16 ? 3.38953139e38f : INFINITY;
    return fabsf(x) > most && fabsf(x) < INFINITY ? copysignf(most, x) : x;
}

/* Rows [first, ..) of the file's [out][in][taps] to the form's [out][tap][padded]; half: of the
 * rows, where those of the second half go between those of the first. */
struct place_args {
    const void *from;
    void *to;
    int from_type, to_type, first, in, taps, padded, half;
    int out; /* place_up: of the weight; else 0 */
    unsigned count;
};

static __global__ void __launch_bounds__(PLACE) place(const __grid_constant__ struct place_args a)
{
    grid_wait();
    unsigned at = blockIdx.x * PLACE + threadIdx.x, depth = (unsigned)(a.in * a.taps);
    if (at >= a.count)
        return;
    unsigned row = at / depth, rest = at % depth, channel = rest / (unsigned)a.taps;
    int out = a.first + (int)row, tap = (int)(rest % (unsigned)a.taps);
    if (a.half)
        out = out < a.half ? 2 * out : 2 * (out - a.half) + 1;
    store_as(a.to, a.to_type, ((int64_t)out * a.taps + tap) * a.padded + channel,
             held(load_as(a.from, a.from_type, at), a.to_type));
}

/* 3 x 3 filters of a picture that is first doubled. Output (2y + p, 2x + q) sees rows y - 1 + p and
 * y + p of the picture before, and columns alike, so that each of the four phases (p, q) is a
 * filter of 2 x 2: row i of it is the sum of those rows of the 3 x 3 that fall on it, which are
 * (1 + p) i and, where i is not p, the next one. Sums are fp32, rounded once. */
static __global__ void __launch_bounds__(PLACE)
    place_up(const __grid_constant__ struct place_args a)
{
    __shared__ float w[9 * PLACE];
    grid_wait();
    unsigned first = blockIdx.x * PLACE, at = first + threadIdx.x;
    for (unsigned i = threadIdx.x; i < 9 * PLACE; i += PLACE)
        w[i] = 9 * first + i < 9 * a.count ? load_as(a.from, a.from_type, 9 * first + i) : 0.0f;
    __syncthreads();
    if (at >= a.count)
        return;
    int row = (int)(at / (unsigned)a.in), channel = (int)(at % (unsigned)a.in);
    for (int phase = 0; phase < 4; phase++)
        for (int tap = 0; tap < 4; tap++) {
            int p = phase / 2, q = phase % 2, i = tap / 2, j = tap % 2;
            float sum = 0;
            for (int y = (1 + p) * i; y <= (1 + p) * i + (i != p); y++)
                for (int x = (1 + q) * j; x <= (1 + q) * j + (j != q); x++)
                    sum += w[9 * threadIdx.x + 3 * y + x];
            int64_t to = ((int64_t)phase * a.out + a.first + row) * 4 + tap;
            store_as(a.to, a.to_type, to * a.padded + channel, held(sum, a.to_type));
        }
}

/* Rows [first, first + rows) of a part, raw, and the changes of the weight. */
struct change_args {
    char *block; /* terms, factors, gains */
    void *raw;
    int raw_type, terms, part, first, rows, depth;
};

/* scale * up[row] . down[.][column] */
DEVICE float change_at(const char *block, const cuda_term &t, int row, int column, int depth)
{
    float sum = 0;
    for (int r = 0; r < t.rank; r++)
        sum = fmaf(load_as(block + t.up, t.up_type, (int64_t)row * t.rank + r),
                   load_as(block + t.down, t.down_type, (int64_t)r * depth + column), sum);
    return t.scale * sum;
}

/* What a row is multiplied with: its magnitude by its length. A block for each row and term. */
static __global__ void __launch_bounds__(NORM)
    find_gains(const __grid_constant__ struct change_args a)
{
    __shared__ float sums[NORM];
    grid_wait();
    const cuda_term t = ((const cuda_term *)a.block)[blockIdx.y];
    int row = a.first + (int)blockIdx.x, lane = (int)threadIdx.x;
    if (t.part != a.part || !t.magnitude_type)
        return;
    float sum = 0;
    for (int i = lane; i < a.depth; i += NORM) {
        float w = load_as(a.raw, a.raw_type, (int64_t)blockIdx.x * a.depth + i) +
                  change_at(a.block, t, row, i, a.depth);
        sum = fmaf(w, w, sum);
    }
    sums[lane] = sum;
    for (int n = NORM / 2; n; n /= 2) {
        __syncthreads();
        if (lane < n)
            sums[lane] += sums[lane + n];
    }
    if (lane)
        return;
    float magnitude = load_as(a.block + t.magnitude, t.magnitude_type, row);
    ((float *)(a.block + t.gain))[row] = sums[0] > 0 ? magnitude / sqrtf(sums[0]) : 0;
}

/* change[i] += what the term makes of w[i], for ROWS rows of a column. */
DEVICE void add_term(const struct change_args &a, const cuda_term &t, int row, int rows, int column,
                     const float (&w)[ROWS], float (&change)[ROWS])
{
    float sum[ROWS] = {};
    for (int r = 0; r < t.rank; r++) {
        float down = load_as(a.block + t.down, t.down_type, (int64_t)r * a.depth + column);
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            if (i < rows)
                sum[i] = fmaf(load_as(a.block + t.up, t.up_type, (int64_t)(row + i) * t.rank + r),
                              down, sum[i]);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        if (i >= rows)
            continue;
        if (t.magnitude_type)
            change[i] +=
                ((const float *)(a.block + t.gain))[row + i] * (w[i] + t.scale * sum[i]) - w[i];
        else
            change[i] += t.scale * sum[i];
    }
}

/* The rows as they are with all changes, rounded once to the file's type. A thread has ROWS rows of
 * a column, so that a number of `down` is read once for all of them. */
static __global__ void __launch_bounds__(COLUMNS)
    change(const __grid_constant__ struct change_args a)
{
    grid_wait();
    int column = (int)(blockIdx.y * COLUMNS + threadIdx.x), first = (int)blockIdx.x * ROWS;
    int rows = min(ROWS, a.rows - first);
    if (column >= a.depth)
        return;
    float w[ROWS], more[ROWS] = {};
    int64_t at = (int64_t)first * a.depth + column;
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        w[i] = i < rows ? load_as(a.raw, a.raw_type, at + (int64_t)i * a.depth) : 0;
    for (int i = 0; i < a.terms; i++) {
        const cuda_term t = ((const cuda_term *)a.block)[i];
        if (t.part == a.part)
            add_term(a, t, a.first + first, rows, column, w, more);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (i < rows)
            store_as(a.raw, a.raw_type, at + (int64_t)i * a.depth,
                     held(w[i] + more[i], a.raw_type));
}

/* ---- the loader ----------------------------------------------------------------------------- */

static cudaError_t open_parts(cuda_loader *l)
{
    cudaError_t e = cudaStreamCreateWithFlags(&l->stream, cudaStreamNonBlocking);
    if (!e)
        e = cudaEventCreateWithFlags(&l->done, cudaEventDisableTiming);
    for (int i = 0; i < LOADER_TURNS && !e; i++)
        e = cudaEventCreateWithFlags(&l->taken[i], cudaEventDisableTiming);
    if (!e)
        e = cudaHostAlloc((void **)&l->pinned, LOADER_TURNS * PIECE, cudaHostAllocDefault);
    return e;
}

cudaError_t cuda_loader_open(cuda_device *d)
{
    if (d->loader)
        return cudaSuccess;
    d->loader = (cuda_loader *)calloc(1, sizeof *d->loader);
    if (!d->loader)
        return cudaErrorMemoryAllocation;
    cudaError_t e = open_parts(d->loader);
    if (e)
        cuda_loader_close(d);
    return e;
}

/* *data becomes a block of `bytes` bytes. What was in it is lost. */
static cudaError_t resize(cuda_device *d, void **data, size_t *had, size_t bytes)
{
    cudaError_t e = cudaSuccess;
    if (*data)
        cudaFree(*data); /* waits for work that may use it */
    d->bytes -= *had;
    *data = NULL;
    *had = 0;
    if (bytes)
        e = cudaMalloc(data, bytes);
    if (e) {
        *data = NULL;
        return e;
    }
    d->bytes += *had = bytes;
    return e;
}

void cuda_loader_close(cuda_device *d)
{
    cuda_loader *l = d->loader;
    if (!l)
        return;
    if (l->stream)
        cudaStreamSynchronize(l->stream);
    resize(d, &l->raw, &l->raw_bytes, 0);
    cuda_loader_factors(d, 0);
    if (l->pinned)
        cudaFreeHost(l->pinned);
    for (int i = 0; i < LOADER_TURNS; i++)
        if (l->taken[i])
            cudaEventDestroy(l->taken[i]);
    if (l->done)
        cudaEventDestroy(l->done);
    if (l->stream)
        cudaStreamDestroy(l->stream);
    free(l);
    d->loader = NULL;
}

cudaError_t cuda_loader_factors(cuda_device *d, size_t bytes)
{
    cuda_loader *l = d->loader;
    if (bytes && bytes <= l->factor_bytes)
        return cudaSuccess;
    bytes = (bytes + FACTORS - 1) / FACTORS * FACTORS;
    return resize(d, (void **)&l->factors, &l->factor_bytes, bytes);
}

/* Host memory of any kind to the device, in the order of the stream; the host may forget it. */
static cudaError_t bring(cuda_loader *l, void *to, const void *from, size_t bytes)
{
    for (size_t at = 0, n; at < bytes; at += n) {
        char *piece = l->pinned + (size_t)l->turn * PIECE;
        n = bytes - at < PIECE ? bytes - at : PIECE;
        cudaError_t e = cudaEventSynchronize(l->taken[l->turn]);
        if (e)
            return e;
        memcpy(piece, (const char *)from + at, n);
        e = cudaMemcpyAsync((char *)to + at, piece, n, cudaMemcpyHostToDevice, l->stream);
        if (!e)
            e = cudaEventRecord(l->taken[l->turn], l->stream);
        if (e)
            return e;
        l->turn = (l->turn + 1) % LOADER_TURNS;
    }
    return cudaSuccess;
}

/* ---- forms ---------------------------------------------------------------------------------- */

/* Rows [first, first + rows) of part p, which lie in l->raw, as they are with the changes. */
static void add_changes(cuda_loader *l, const k_weight *w, int p, int first, int rows)
{
    struct change_args a = zeroed<struct change_args>();
    a.block = l->factors;
    a.raw = l->raw;
    a.raw_type = w->desc.weight[0].dtype;
    a.terms = w->change->terms;
    a.part = p;
    a.first = first;
    a.rows = rows;
    a.depth = w->desc.in * w->desc.kh * w->desc.kw;
    if (w->change->bytes > w->change->image_bytes)
        find_gains<<<dim3((unsigned)rows, (unsigned)a.terms), NORM, 0, l->stream>>>(a);
    change<<<dim3(blocks_of(rows, ROWS), blocks_of(a.depth, COLUMNS)), COLUMNS, 0, l->stream>>>(a);
}

static void put_in_place(cuda_loader *l, const struct place_args *a)
{
    struct place_args b = *a;
    if (!a->out) {
        place<<<blocks_of(a->count, PLACE), PLACE, 0, l->stream>>>(*a);
        return;
    }
    b.count /= 9;
    place_up<<<blocks_of(b.count, PLACE), PLACE, 0, l->stream>>>(b);
}

/* One part, some rows at a time, through l->raw. */
static cudaError_t fill_part(cuda_device *d, const k_weight *w, int p, int changed,
                             struct place_args *a)
{
    cuda_loader *l = d->loader;
    const k_array *from = &w->desc.weight[p];
    int each = w->desc.out / w->desc.parts;
    size_t depth = (size_t)a->in * (size_t)a->taps, bytes = depth * k_size(from->dtype);
    cudaError_t e = cudaSuccess;
    if (bytes > l->raw_bytes || !l->raw_bytes)
        e = resize(d, &l->raw, &l->raw_bytes, bytes < PIECE ? PIECE : bytes);
    for (int row = 0, n; row < each && !e; row += n) {
        n = (int)(l->raw_bytes / bytes) < each - row ? (int)(l->raw_bytes / bytes) : each - row;
        e = bring(l, l->raw, (const char *)from->data + (size_t)row * bytes, (size_t)n * bytes);
        if (e)
            return e;
        if (changed)
            add_changes(l, w, p, row, n);
        a->from = l->raw;
        a->first = p * each + row;
        a->count = (unsigned)((size_t)n * depth);
        put_in_place(l, a);
        e = cudaGetLastError();
    }
    return e;
}

static struct place_args place_of(const k_weight_desc *w, int kind, int type, const cuda_form *f)
{
    struct place_args a = zeroed<struct place_args>();
    a.to = f->data;
    a.from_type = w->weight[0].dtype;
    a.to_type = kind == CUDA_VECTOR ? K_F32 : type == CUDA_BF16 ? K_BF16 : K_F16;
    a.taps = kind == CUDA_VECTOR ? 1 : w->kh * w->kw;
    a.in = w->in * w->kh * w->kw / a.taps;
    a.padded = f->depth / (kind == CUDA_FILTER_UP ? 4 : a.taps);
    a.out = kind == CUDA_FILTER_UP ? w->out : 0;
    a.half = kind == CUDA_FILTER_PAIR ? w->out / 2 : 0;
    return a;
}

cudaError_t cuda_form_fill(cuda_device *d, const k_weight *w, int kind, int type,
                           const cuda_form *f, unsigned parts)
{
    const k_weight_desc *s = &w->desc;
    cuda_loader *l = d->loader;
    struct place_args a = place_of(s, kind, type, f);
    size_t part = f->bytes / (size_t)s->parts;
    unsigned changed = w->change && kind >= CUDA_FILTER ? w->change->parts & parts : 0;
    cudaError_t e = cudaSuccess;
    if (changed)
        e = cuda_loader_factors(d, w->change->bytes);
    if (changed && !e)
        e = bring(l, l->factors, w->change->image, w->change->image_bytes);
    for (int p = 0; p < s->parts && !e; p++) {
        if (!(parts >> p & 1))
            continue;
        if (kind == CUDA_TABLE)
            e = bring(l, (char *)f->data + (size_t)p * part, s->weight[p].data, part);
        else
            e = fill_part(d, w, p, changed >> p & 1, &a);
    }
    return e ? e : cudaEventRecord(l->done, l->stream);
}

cudaError_t cuda_form_bias(cuda_device *d, const k_weight *w, int kind, const cuda_form *f)
{
    const k_weight_desc *s = &w->desc;
    cuda_loader *l = d->loader;
    struct place_args a = zeroed<struct place_args>();
    int each = s->out / s->parts;
    cudaError_t e = cudaSuccess;
    a.to = f->bias;
    a.to_type = K_F32;
    a.in = a.taps = a.padded = 1;
    a.half = kind == CUDA_FILTER_PAIR ? s->out / 2 : 0;
    for (int p = 0; p < s->parts && f->bias && s->bias[0].data && !e; p++) {
        size_t bytes = (size_t)each * k_size(s->bias[p].dtype);
        if (bytes > l->raw_bytes)
            e = resize(d, &l->raw, &l->raw_bytes, bytes);
        if (!e)
            e = bring(l, l->raw, s->bias[p].data, bytes);
        if (e)
            return e;
        a.from = l->raw;
        a.from_type = s->bias[p].dtype;
        a.first = p * each;
        a.count = (unsigned)each;
        put_in_place(l, &a);
        e = cudaGetLastError();
    }
    return e ? e : cudaEventRecord(l->done, l->stream);
}
