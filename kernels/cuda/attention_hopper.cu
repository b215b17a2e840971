/* attention_hopper.cu - attention on sm_90a, whose tensor cores read keys and values from shared
 * memory by themselves (wgmma).
 *
 * A warp group has 64 queries. They stay in registers, and so do scores: softmax leaves them in the
 * layout in which the second product takes its left side. While scores of one tile of keys become
 * weights, the tile before is weighed and other warp groups multiply. A block has SETS sets of
 * queries; SHARE warp groups work on the same set, and take turns at the tiles of keys: where there
 * are few queries, more of them are under way on a multiprocessor. What they have is added up at
 * the end, in order.
 *
 * On other processors the kernels are empty, and attention.cu does not choose them.
 * Source: Shah et al. 2024 (FlashAttention-3); PTX ISA, "Asynchronous Warpgroup Level Matrix
 * Instructions".
 */
#include "attention.cuh"
#include "wgmma.cuh"

enum { GROUP = 128, ALIGN = 1024, PANEL = TILE * 128 }; /* threads; bytes of a tile's 64 columns */

/* A stage has TILES tiles of keys, then those of values, each in panels of 64 columns. */
template <class Type, int HEAD_, int SETS_, int SHARE_, int TILES_, int STAGES_> struct plan {
    typedef Type T;
    static constexpr int HEAD = HEAD_, SETS = SETS_, SHARE = SHARE_, TILES = TILES_;
    static constexpr int STAGES = STAGES_, AHEAD = STAGES - 2;
    static constexpr int THREADS = GROUP * SETS * SHARE, ROWS = 64 * SETS;
    static constexpr int DEEP = (HEAD + 15) / 16, PITCH = 2 * DEEP; /* steps, pieces of a row */
    static constexpr int PART = (HEAD + 63) / 64 * PANEL;           /* bytes of a tile */
    static constexpr int STAGE = 2 * TILES * PART, TURNS = TILES / SHARE;
    static constexpr int LEFT = (HEAD / 2 + 4) * GROUP * 4; /* bytes that a warp group hands over */
    static constexpr int SHARED = STAGES * STAGE + ALIGN;
    static_assert(TILES % SHARE == 0 && AHEAD >= 1, "stages");
    static_assert(SETS * (SHARE - 1) * LEFT + ROWS * PITCH * 16 <= STAGES * STAGE, "the way out");
};

#if HOPPER

/* d += a b or d = a b over a warp group; a in registers as mma has it. turned: b lies in rows of
 * columns, as values do. */
/* clang-format off */
#define WGMMA_LEFT(N, TYPE, LIST, A, B, S, TURNED, ...)                                            \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " S ", 0;\n"                                \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" LIST "}, {"  \
                 A "}, " B ", add, 1, 1, " TURNED ";\n}"                                           \
                 : __VA_ARGS__                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))
#define WGMMA_LEFT_OF(NAME, N, TURNED, LIST, A, B, S, ...)                                         \
    DEVICE void NAME(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, int add, __half)    \
    {                                                                                              \
        WGMMA_LEFT(N, "f16", LIST, A, B, S, TURNED, __VA_ARGS__);                                  \
    }                                                                                              \
    DEVICE void NAME(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, int add,            \
                     __nv_bfloat16)                                                                \
    {                                                                                              \
        WGMMA_LEFT(N, "bf16", LIST, A, B, S, TURNED, __VA_ARGS__);                                 \
    }
#define SCORES TEN() "," TEN(1) "," TEN(2) ",%30,%31"
WGMMA_LEFT_OF(multiply, 64, "0", SCORES, "%32,%33,%34,%35", "%36", "%37", SUMS_8(0))
WGMMA_LEFT_OF(weigh, 40, "1", TEN() "," TEN(1), "%20,%21,%22,%23", "%24", "%25",
              SUMS_4(0), SUMS_1(4))
WGMMA_LEFT_OF(weigh, 64, "1", SCORES, "%32,%33,%34,%35", "%36", "%37", SUMS_8(0))
WGMMA_LEFT_OF(weigh, 80, "1", TEN() "," TEN(1) "," TEN(2) "," TEN(3), "%40,%41,%42,%43",
              "%44", "%45", SUMS_8(0), SUMS_2(8))
WGMMA_LEFT_OF(weigh, 128, "1", TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5)
              ",%60,%61,%62,%63", "%64,%65,%66,%67", "%68", "%69", SUMS_16(0))
WGMMA_LEFT_OF(weigh, 160, "1", TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) ","
              TEN(6) "," TEN(7), "%80,%81,%82,%83", "%84", "%85", SUMS_16(0), SUMS_4(16))
/* clang-format on */

/* Products that were waited for: nothing that reads d comes before this. */
template <int N> DEVICE void hold(float (&d)[N][4])
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        asm volatile("" : "+f"(d[i / 4][i % 4])::"memory");
}

/* A left side: complete here, and not gone before this. */
template <int N> DEVICE void hold(uint32_t (&a)[N][4])
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++)
        asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}

/* What a lane holds of its warp's 16 queries: of rows lane / 4 and lane / 4 + 8. */
template <class C> struct state {
    uint32_t q[C::DEEP][4], p[4][4];
    float out[C::HEAD / 8][4];
    float top[2], sum[4]; /* the largest score so far; sums of this lane's even and odd columns */
};

/* Where piece p of row r of a stage's keys, or values, lies. */
template <class C> DEVICE int spot(int r, int p)
{
    return r / TILE * C::PART + p / 8 * PANEL + r % TILE * 128 + ((p ^ r) & 7) * 16;
}

/* Rows `first` .. first + TILES * TILE, as tiles; zeros behind row `limit`. */
template <class C>
DEVICE void bring_rows(unsigned char *to, const void *from, int ld, int first, int limit, int d)
{
    constexpr int rows = C::TILES * TILE, pass = C::THREADS / C::PITCH;
    if (pass % 8 == 0 && C::THREADS % C::PITCH == 0 && first + rows <= limit && d == C::HEAD) {
        const int r = threadIdx.x / C::PITCH, p = threadIdx.x % C::PITCH; /* always this piece */
        const char *at = (const char *)from + ((int64_t)(first + r) * ld + p * 8) * 2;
        const bool in = C::HEAD % 16 == 0 || p < C::HEAD / 8;
#pragma unroll
        for (int j = 0; j < rows; j += pass)
            if (j + pass <= rows || r + j < rows)
                copy_16(to + spot<C>(r + j, p), in ? at + (int64_t)ld * (j * 2) : from, in);
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < rows * C::PITCH; i += C::THREADS) {
        const int r = i / C::PITCH, p = i % C::PITCH;
        const bool valid = first + r < limit && p * 8 < d;
        const char *at = (const char *)from + ((int64_t)(first + r) * ld + p * 8) * 2;
        copy_16(to + spot<C>(r, p), valid ? at : from, valid);
    }
}

/* Where the block's barrier is, in front of the stages. */
DEVICE unsigned gate_address()
{
    return shared_address(&shared<uint64_t>());
}

/* What the block's threads share. */
struct source {
    const void *k, *v;
    unsigned char *room;
    int d, stages, share; /* share: whose turn of the tiles this warp group has */
};

template <class C> DEVICE void bring(const attend_args &a, const source &s, int stage)
{
    if (stage < s.stages) {
        unsigned char *to = s.room + stage % C::STAGES * C::STAGE;
        const int first = stage * C::TILES * TILE;
        bring_rows<C>(to, s.k, a.k_ld, first, a.tk, s.d);
        bring_rows<C>(to + C::TILES * C::PART, s.v, a.v_ld, first, a.tk, s.d);
    }
    copy_commit();
}

/* The block's barrier is in two halves, so that warp groups need not keep step. A warp reaches a
 * stage once what it has sent for is there and it is done with the stage before the last; it passes
 * when all have reached it, and sends for another one in the place of that which all are done with.
 */
template <class C> DEVICE void reach()
{
    copy_wait<C::AHEAD - 1>();
    products_see_copies();
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(gate_address()) : "memory");
}

template <class C> DEVICE void pass(const attend_args &a, const source &s, int stage)
{
    int over;
    do
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.b32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(gate_address()), "r"(stage & 1)
                     : "memory");
    while (!over);
    bring<C>(a, s, stage + C::AHEAD);
}

/* This warp group's tile of keys at a turn; that of values is TILES tiles on. */
template <class C> DEVICE const unsigned char *tile_of(const source &s, int turn)
{
    const int stage = turn / C::TURNS % C::STAGES;
    return s.room + stage * C::STAGE + (turn % C::TURNS * C::SHARE + s.share) * C::PART;
}

/* score = q k^T, under way. */
template <class C>
DEVICE void start_score(const state<C> &st, float (&score)[TILE / 8][4], const unsigned char *tile)
{
    const uint64_t keys = describe(tile);
    products_begin();
#pragma unroll
    for (int i = 0; i < C::DEEP; i++)
        multiply(score, st.q[i], keys + i / 4 * (PANEL / 16) + i % 4 * 2, i, typename C::T());
    products_commit();
}

/* out += p v, under way. In rows of columns, panels are the leading dimension, 16 keys two groups
 * of eight rows. */
template <class C> DEVICE void start_weigh(state<C> &st, const unsigned char *tile, int add)
{
    const uint64_t leads = (uint64_t)(PANEL / 16 - 1) << 16; /* over the 1 that describe has */
    const uint64_t values = describe(tile + C::TILES * C::PART) + leads;
    products_begin();
#pragma unroll
    for (int i = 0; i < TILE / 16; i++)
        weigh(st.out, st.p[i], values + i * 128, add | i, typename C::T());
    products_commit();
}

/* Scores become weights against the largest score so far, and what was summed up before is to be
 * multiplied by keep. EDGE: keys from `left` on are hidden. */
template <class C, bool EDGE>
DEVICE void soften(state<C> &st, float (&s)[TILE / 8][4], float (&keep)[2], float scale, int left)
{
    float top[4], base[2];
    if (EDGE) {
        left -= (int)threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < TILE / 2; i++)
            if (i / 4 * 8 + i % 2 >= left)
                s[i / 4][i % 4] = -INFINITY;
    }
#pragma unroll
    for (int c = 0; c < 4; c++) {
        top[c] = s[0][c];
#pragma unroll
        for (int n = 1; n < TILE / 8; n++)
            top[c] = fmaxf(top[c], s[n][c]);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = fmaxf(st.top[h], fmaxf(top[2 * h], top[2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        base[h] = most * scale;
        keep[h] = exp_2(fmaf(st.top[h], scale, -base[h]));
        st.top[h] = most;
        st.sum[2 * h] *= keep[h];
        st.sum[2 * h + 1] *= keep[h];
    }
#pragma unroll
    for (int i = 0; i < TILE / 2; i++) {
        float &weight = s[i / 4][i % 4];
        weight = exp_2(fmaf(weight, scale, -base[i % 4 / 2]));
        st.sum[i % 4] += weight;
    }
}

/* Weights as the left side of the second product, once the last ones were used. */
template <class C> DEVICE void take_weights(state<C> &st, float (&s)[TILE / 8][4])
{
    hold(s);
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            st.p[n / 2][n % 2 * 2 + h] = pack(s[n][2 * h], s[n][2 * h + 1], typename C::T());
    hold(st.p);
}

/* A store that never happens, of sums of weights: ptxas would wait for products first of all, but
 * does not move that before a store. */
DEVICE void weights_first(const float (&sum)[4], void *anywhere)
{
    asm volatile(
        "{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n"
        "setp.lt.or.f32 p, %1, 0f00000000, p;\nsetp.lt.or.f32 p, %2, 0f00000000, p;\n"
        "setp.lt.or.f32 p, %3, 0f00000000, p;\n@p st.shared.f32 [%4], %0;\n}" ::"f"(sum[0]),
        "f"(sum[1]), "f"(sum[2]), "f"(sum[3]), "r"(shared_address(anywhere))
        : "memory");
}

/* One turn: the last one's tile is weighed while this one's scores are computed and softened. */
template <class C, bool EDGE>
DEVICE void take_turn(const attend_args &a, const source &s, state<C> &st, int turn)
{
    float score[TILE / 8][4], keep[2];
    if (turn % C::TURNS == 0)
        pass<C>(a, s, turn / C::TURNS);
    start_score<C>(st, score, tile_of<C>(s, turn));
    start_weigh<C>(st, tile_of<C>(s, turn - 1), turn - 1);
    products_wait<1>();
    hold(score);
    soften<C, EDGE>(st, score, keep, a.scale, a.tk - (turn * C::SHARE + s.share) * TILE);
    weights_first(st.sum, s.room);
    products_wait<0>();
    hold(st.out);
    hold(st.p);
    if (turn % C::TURNS == 0)
        reach<C>();
#pragma unroll
    for (int i = 0; i < C::HEAD / 2; i++)
        st.out[i / 4][i % 4] *= keep[i % 4 / 2];
    take_weights<C>(st, score);
}

template <class C> DEVICE void attend_keys(const attend_args &a, const source &s, state<C> &st)
{
    const int turns = (a.tk + TILE * C::SHARE - 1) / (TILE * C::SHARE);
    float score[TILE / 8][4], keep[2];
    hold(st.q);
    reach<C>();
    pass<C>(a, s, 0);
    start_score<C>(st, score, tile_of<C>(s, 0));
    products_wait<0>();
    hold(score);
    soften<C, true>(st, score, keep, a.scale, a.tk - s.share * TILE);
    reach<C>();
    take_weights<C>(st, score);
#pragma unroll 1
    for (int turn = 1; turn < turns - 1; turn++)
        take_turn<C, false>(a, s, st, turn);
    if (turns > 1)
        take_turn<C, true>(a, s, st, turns - 1);
    start_weigh<C>(st, tile_of<C>(s, turns - 1), turns - 1);
    products_wait<0>();
    hold(st.out);
    hold(st.p);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = st.sum[2 * h] + st.sum[2 * h + 1];
        sum += __shfl_xor_sync(~0u, sum, 1);
        st.sum[h] = sum + __shfl_xor_sync(~0u, sum, 2); /* from here on of the whole row */
    }
}

/* What another warp group has of the same queries comes to this one's. */
template <class C> DEVICE void add_share(state<C> &st, const float *from, float scale)
{
    float mine[2], theirs[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float top = from[h * GROUP], most = fmaxf(top, st.top[h]);
        mine[h] = exp_2((st.top[h] - most) * scale);
        theirs[h] = exp_2((top - most) * scale);
        st.top[h] = most;
        st.sum[h] = st.sum[h] * mine[h] + from[(2 + h) * GROUP] * theirs[h];
    }
#pragma unroll
    for (int i = 0; i < C::HEAD / 2; i++) {
        float &out = st.out[i / 4][i % 4];
        out = out * mine[i % 4 / 2] + from[(4 + i) * GROUP] * theirs[i % 4 / 2];
    }
}

/* Warp groups of a set come together in its first one; false for the others. */
template <class C> DEVICE bool join(const attend_args &a, const source &s, state<C> &st, int set)
{
    float *const left = (float *)(s.room + set * (C::SHARE - 1) * C::LEFT) + threadIdx.x % GROUP;
    if (s.share > 0) {
        float *to = left + (s.share - 1) * (C::LEFT / 4);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            to[h * GROUP] = st.top[h];
            to[(2 + h) * GROUP] = st.sum[h];
        }
#pragma unroll
        for (int i = 0; i < C::HEAD / 2; i++)
            to[(4 + i) * GROUP] = st.out[i / 4][i % 4];
    }
    __syncthreads();
    if (s.share > 0)
        return false;
#pragma unroll
    for (int i = 0; i < C::SHARE - 1; i++)
        add_share<C>(st, left + i * (C::LEFT / 4), a.scale);
    return true;
}

/* Rows of the result, by way of shared memory so that whole pieces are written. */
template <class C>
DEVICE void store_rows(const attend_args &a, const state<C> &st, uint4 *stage, typename C::T *y,
                       int first)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float z = 1.0f / st.sum[h];
#pragma unroll
        for (int d = 0; d < C::HEAD / 8; d++) {
            uint4 *to = stage + place<C::PITCH>(h * 8 + lane / 4, d);
            ((uint32_t *)to)[lane % 4] =
                pack(st.out[d][2 * h] * z, st.out[d][2 * h + 1] * z, typename C::T());
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * C::PITCH; i += 32) {
        const int r = i / C::PITCH, p = i % C::PITCH;
        if (first + r < a.tq && p * 8 < a.d)
            *(uint4 *)(y + (int64_t)(first + r) * a.y_ld + p * 8) = stage[place<C::PITCH>(r, p)];
    }
}

/* A warp's queries from row `first` on as the left side; rows behind the last are like it. */
template <class C>
DEVICE void take_queries(const attend_args &a, state<C> &st, const typename C::T *q, int first)
{
    const int lane = threadIdx.x % 32;
    const typename C::T *low = q + (int64_t)min(first + lane / 4, a.tq - 1) * a.q_ld + lane % 4 * 2;
    const typename C::T *high =
        q + (int64_t)min(first + lane / 4 + 8, a.tq - 1) * a.q_ld + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < C::PITCH; i++) {
        const bool in = i * 8 < a.d;
        st.q[i / 2][i % 2 * 2] = in ? *(const uint32_t *)(low + i * 8) : 0;
        st.q[i / 2][i % 2 * 2 + 1] = in ? *(const uint32_t *)(high + i * 8) : 0;
    }
}

template <class C> DEVICE void attend_hopper(const attend_args &a)
{
    typedef typename C::T T;
    const int head = blockIdx.y, image = blockIdx.z, group = threadIdx.x / GROUP;
    const int set = group / C::SHARE, warp = set * 4 + threadIdx.x % GROUP / 32;
    const int first = blockIdx.x * C::ROWS + warp * 16;
    const int64_t kv = a.kv_images == 1 ? 0 : (int64_t)image * a.tk;
    source s;
    s.room = &shared<unsigned char>();
    s.room += ALIGN - (shared_address(s.room) & (ALIGN - 1)); /* behind the barrier */
    s.k = (const T *)a.k + kv * a.k_ld + head * a.d;
    s.v = (const T *)a.v + kv * a.v_ld + head * a.d;
    s.d = a.d;
    s.stages = (a.tk + C::TILES * TILE - 1) / (C::TILES * TILE);
    s.share = group % C::SHARE;
    state<C> st;
    st.top[0] = st.top[1] = -INFINITY;
    st.sum[0] = st.sum[1] = st.sum[2] = st.sum[3] = 0.0f;

    if (threadIdx.x == 0)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(gate_address()),
                     "r"(C::THREADS / 32)
                     : "memory");
    __syncthreads();
    grid_wait();
    grid_release();
#pragma unroll
    for (int i = 0; i < C::AHEAD; i++)
        bring<C>(a, s, i);
    take_queries<C>(a, st, (const T *)a.q + (int64_t)image * a.tq * a.q_ld + head * a.d, first);
    attend_keys<C>(a, s, st);
    copy_wait<0>();
    __syncthreads();
    if (C::SHARE > 1 && !join<C>(a, s, st, set))
        return;
    uint4 *stage = (uint4 *)(s.room + C::SETS * (C::SHARE - 1) * C::LEFT) + warp * 16 * C::PITCH;
    store_rows<C>(a, st, stage, (T *)a.y + (int64_t)image * a.tq * a.y_ld + head * a.d, first);
}

#endif

/* Grid: tiles of queries, heads, images. */
template <class C, int BLOCKS>
__global__ void __launch_bounds__(C::THREADS, BLOCKS)
    attend_hopper(const __grid_constant__ attend_args a)
{
#if HOPPER
    attend_hopper<C>(a);
#endif
}

/* ---- host side ------------------------------------------------------------------------------ */

struct hopper_way {
    void (*kernel)(attend_args);
    int rows, threads, shared;
    int keys; /* so many at least */
};

template <class C, int BLOCKS = 1> static hopper_way way_of()
{
    return {attend_hopper<C, BLOCKS>, C::ROWS, C::THREADS, C::SHARED, TILE * (C::SHARE - 1) + 1};
}

/* Ways for heads of d, the one with most queries a block first. */
template <class T> static int ways_of(hopper_way (&w)[3], int d)
{
    if (d <= 40) {
        w[0] = way_of<plan<T, 40, 3, 1, 4, 3>>();
        w[1] = way_of<plan<T, 40, 2, 2, 4, 3>>();
        w[2] = way_of<plan<T, 40, 1, 2, 2, 3>, 2>();
        return 3;
    }
    if (d <= 64) {
        w[0] = way_of<plan<T, 64, 3, 1, 4, 3>>();
        w[1] = way_of<plan<T, 64, 2, 2, 4, 3>>();
        w[2] = way_of<plan<T, 64, 1, 2, 2, 3>, 2>();
        return 3;
    }
    if (d <= 80) {
        w[0] = way_of<plan<T, 80, 2, 1, 1, 4>>();
        w[1] = way_of<plan<T, 80, 1, 2, 2, 3>>();
        return 2;
    }
    if (d <= 128) {
        w[0] = way_of<plan<T, 128, 2, 1, 1, 4>>();
        w[1] = way_of<plan<T, 128, 1, 2, 2, 3>>();
        return 2;
    }
    w[0] = way_of<plan<T, 160, 2, 1, 1, 4>>();
    return 1;
}

int cuda_attend_hopper(k_ctx *k, const attend_args &a, int heads, int images)
{
    const cuda_device *d = cuda_of(k);
    const hopper_way *best = NULL;
    hopper_way w[3];
    int64_t least = 0;
    if (d->sm != 90 || a.causal || a.d > 160)
        return 0;
    int ways = a.q_type == K_F16 ? ways_of<__half>(w, a.d) : ways_of<__nv_bfloat16>(w, a.d);
    for (int i = 0; i < ways; i++) {
        /* Queries that the busiest multiprocessor has. A block of few takes as long as one of 128:
         * it brings as many keys. */
        int64_t blocks = (int64_t)blocks_of(a.tq, w[i].rows) * heads * images;
        int64_t cost =
            (blocks + d->processors - 1) / d->processors * (w[i].rows < 128 ? 128 : w[i].rows);
        if (a.tk >= w[i].keys &&
            (!best || cost < least || (cost == least && blocks <= d->processors))) {
            best = &w[i];
            least = cost;
        }
    }
    if (!k->planning)
        launch(k, best->kernel,
               dim3(blocks_of(a.tq, best->rows), (unsigned)heads, (unsigned)images),
               (unsigned)best->threads, (size_t)best->shared, a);
    return 1;
}
