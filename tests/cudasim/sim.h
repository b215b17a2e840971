/* sim.h - what the files of the simulator share. parse.cpp: PTX to decoded kernels; arith.cpp,
 * convert.cpp: what a lane computes; run.cpp: warps and blocks; memory.cpp: memory and its checks;
 * wgmma.cpp, mbarrier.cpp: what sm_90a has; runtime.cpp, device.cpp: the calls of libcudart. A
 * register is a row of 32 lanes, 4 bytes each (8 for .b64 and .f64), so that one instruction is one
 * loop over rows. Predicates are bit masks; immediates are constant rows. */
#pragma once
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
using std::string;
using std::vector;

struct Warp;
struct Block;
struct Inst;
struct Allocation;
struct Function;                                                /* parsed, not decoded: parse.cpp */
typedef void (*Pure)(const Warp &w, const Inst &in, void *d);   /* all lanes of one result */
typedef void (*Action)(Warp &w, const Inst &in, u32 mask);      /* anything else */
typedef u32 (*Compare)(const void *a, const void *b, int half); /* in which lanes it holds */

enum Flow : u8 { PURE, ACTION, BRANCH, TABLE, EXIT, BARRIER };
enum Space : u8 { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };
enum RegKind : u8 { PREDICATE, WORD, LONG, CONST };
enum Touch { READ, WRITE, ATOMIC };

struct Type {
    char kind;      /* b s u f, q for bfloat16, p for predicates, 0 for none */
    u8 bits, lanes; /* of an element; 2 lanes for packed halves */
    char extra;     /* z for .ftz, s for .sat */
};

struct Inst {
    Flow flow;
    Space space;
    Type type, from; /* of the result; of the source of cvt */
    char mode;       /* tells forms of an instruction apart */
    u8 dsts, srcs;
    bool wide, wide_address, option; /* 8-byte rows of data, of addresses; .trans, .clamp, !p */
    s32 pred, target;                /* guard or -1; of a branch, or which table */
    u32 negate;                      /* xor of the guard */
    s32 offset[2];                   /* of the address operands */
    Pure pure;
    Action act;
    Compare compare;
    const u32 *op;            /* results, then sources: rows (Warp::row) or predicates */
    mutable Allocation *hint; /* where this instruction last found its address */
};

struct Source {
    int file, line, by_file, by_line; /* and where that was inlined, or 0 */
    string text;
};
struct Counters {
    u64 launches, instructions, mma, passes, passes_ideal, sectors, sectors_ideal;
};
struct Declared {
    string name;
    Type type;
    size_t size, align, offset;
};
struct Module {
    std::map<string, std::shared_ptr<Function>> functions;
    std::map<string, Declared> shared;                     /* at module scope; size 0: dynamic */
    std::map<string, std::pair<char *, size_t>> variables; /* .global and .const */
    std::map<int, string> files;
};
struct Kernel {
    string name;
    Module *module;
    vector<Declared> params;
    size_t param_bytes, shared, local, reg_bytes, preds;
    int max_threads, max_dynamic; /* of __launch_bounds__; of cudaFuncSetAttribute */
    bool decoded;
    vector<Inst> code;
    vector<u32> operands;
    vector<Source> sources;
    vector<u64> consts;
    vector<vector<s32>> tables;
    Counters counters;
};

struct Operand {
    RegKind kind;
    u64 value; /* number of the register, or the constant */
};
struct Draft { /* an instruction while it is decoded */
    Inst in;
    string name;
    vector<string> mods;
    vector<Type> types;
    vector<Operand> dst, src;
    bool has(const char *mod) const
    {
        return std::find(mods.begin(), mods.end(), mod) != mods.end();
    }
};

void ptx_module(const char *text, size_t size, Module &m);
bool ptx_kernel(Module &m, const string &name, Kernel &k); /* its parameters */
void ptx_decode(Kernel &k);                                /* its code */
/* Choose what executes an instruction; false: not known. */
bool pick_pure(Draft &d);
bool pick_compare(Draft &d);
bool pick_memory(Draft &d);
bool pick_action(Draft &d);
void unknown_instruction(Warp &w, const Inst &in, u32 mask);

struct Dim {
    u32 x, y, z;
};
struct Launch {
    Kernel *kernel;
    Dim grid, block;
    size_t dynamic_shared;
    vector<char> params;
    bool overlaps; /* it may start before the launch before it has ended */
    u32 base;      /* its blocks are base + 1 and so on; base itself stands for several of them */
    u32 floor;     /* before griddepcontrol.wait: what was touched since may not be ready */
};
struct Copy { /* a cp.async in flight */
    int lane;
    u32 group, to, bytes, valid;
    const char *from;
};
struct Product { /* a wgmma under way */
    const Inst *in;
    u64 a, b; /* descriptors */
    bool add;
    u32 group;
};
struct Group { /* lanes at the same instruction */
    s32 pc;
    u32 mask;
};
struct Warp {
    Block *block;
    char *bank[2]; /* registers, constants */
    vector<u64> regs;
    vector<u32> pred;
    vector<char> local;
    Group groups[64];
    int count, first, index;
    u32 alive, waited, epoch, carry;
    s32 pc, barrier;
    vector<Copy> copies;
    vector<Product> products;
    u32 product_groups;
    bool spins, stops; /* waits for an mbarrier; for a barrier of the block */
    u32 committed[32];
    void *row(u32 op) const
    {
        return bank[op & 1] + (op & ~1u);
    }
};
struct Block {
    const Launch &launch;
    Kernel &k;
    Dim id;
    u32 number; /* as memory remembers it */
    vector<char> smem;
    vector<u32> writer, reader; /* of every 2 bytes of shared memory: memory.cpp */
    vector<Warp> warps;
    u32 epoch;
    bool fenced, acquired; /* after a membar; after an atomic */
    u64 steps;             /* at mbarriers */
};

struct Fault {
    string what;
};
[[noreturn]] void fault(const Warp &w, const string &what, int lane = -1);
void need_members(const Warp &w, u32 op, u32 mask); /* of a .sync instruction */
void run_launch(Launch &l);
u32 run_next_id(void);

struct Allocation {
    u64 base;
    size_t size, missing; /* bytes that were never written */
    bool host;
    vector<u64> written;  /* a bit per byte */
    u32 *writer, *reader; /* per 4 bytes: last block << 4 | which bytes */
};
void memory_add(u64 base, size_t size, bool host);
bool memory_remove(u64 base, bool host);
Allocation *memory_find(u64 address); /* that holds it, or null */
size_t memory_used(bool host);
string memory_touch(u64 address, size_t bytes, bool write); /* what is wrong with it, or "" */
void memory_forget_blocks(void);
void memory_start_launch(const Launch &l);
void memory_start_block(Block &b);
void memory_next_epoch(Block &b);
/* Where these bytes of shared memory are, checked as a read, or a write, of lanes of the mask. */
void memory_read_shared(Warp &w, const Inst &in, u32 mask, u64 *at, u32 bytes, char **from);
void memory_write_shared(Warp &w, const Inst &in, u32 mask, u64 *at, u32 bytes, char **to);
Action pick_wgmma(Draft &d);
Action pick_mbarrier(Draft &d);

#define EACH(mask) for (u32 m_ = (mask), l; m_ && (l = __builtin_ctz(m_), true); m_ &= m_ - 1)

template <class T> inline T load(const void *row, int lane)
{
    T v;
    memcpy(&v, (const char *)row + lane * sizeof(T), sizeof(T));
    return v;
}
template <class T> inline void store(void *row, int lane, T v)
{
    memcpy((char *)row + lane * sizeof(T), &v, sizeof(T));
}
template <class To, class From> inline To bits_as(From f)
{
    return load<To>(&f, 0);
}

inline float half_to_float(u16 h)
{
    u32 m = h & 0x7fff;
    float f = bits_as<float>(m << 13) * 0x1p112f; /* also right for subnormal halves */
    u32 u = bits_as<u32>(f) | (m >= 0x7c00 ? 0x7f800000 : 0);
    return bits_as<float>(u | (u32)(h & 0x8000) << 16);
}
inline u16 float_to_half(float f) /* to nearest even */
{
    u32 u = bits_as<u32>(f), sign = u >> 16 & 0x8000, m = u & 0x7fffffff;
    u32 normal = (m - 0x38000000 + 0xfff + (m >> 13 & 1)) >> 13;
    u32 subnormal = bits_as<u32>(bits_as<float>(m) + 0.5f) - bits_as<u32>(0.5f);
    u32 r = m < 0x38800000 ? subnormal : m >= 0x47800000 ? 0x7c00 : normal;
    return m > 0x7f800000 ? 0x7fff : sign | r;
}
inline float bf16_to_float(u16 h)
{
    return bits_as<float>((u32)h << 16);
}
inline u16 float_to_bf16(float f)
{
    u32 u = bits_as<u32>(f);
    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
