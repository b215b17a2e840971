/* sim.h - what the files of the simulator share: decoded kernels (parse.cpp), the meaning of an
 * instruction (arith.cpp: lane by lane; run.cpp: memory and collectives), and device memory
 * (memory.cpp). runtime.cpp stands in for libcudart and ties them together.
 *
 * A register holds 32 lanes in a row: 4 bytes a lane (8 for .b64 and .f64), so that one
 * instruction is one loop over a row. Predicates are bit masks. Immediates are constant rows. */
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

/* ---- decoded kernels ---- */

struct Warp;
struct Inst;
struct Allocation;
typedef void (*Pure)(const Warp &w, const Inst &in, void *d); /* all lanes of one result */
typedef void (*Action)(Warp &w, const Inst &in, u32 mask);    /* anything else */

enum Flow : u8 { PURE, ACTION, BRANCH, TABLE, EXIT, BARRIER };
enum Space : u8 { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };

struct Type {
    char kind; /* b s u f, q for bfloat16, p for predicates, 0 for none */
    u8 bits;   /* of an element */
    u8 lanes;  /* 2 for packed halves */
};

struct Inst {
    Flow flow;
    Space space;
    Type type;
    char mode; /* distinguishes the forms of an action */
    u8 dsts, srcs;
    bool wide_result, wide_address, nc, trans;
    s32 pred;      /* guard, or -1 */
    u32 negate;    /* xor of the guard */
    s32 target;    /* of a branch; or which table */
    s32 offset[2]; /* of the first and second address operand */
    union {
        Pure pure;
        Action act;
    };
    u32 (*compare)(const void *a, const void *b, int half); /* of setp and set: which lanes */
    u32 op[20];               /* results, then sources: rows (see Warp::row) or predicates */
    mutable Allocation *hint; /* where this instruction last found its address */
};

struct Source {
    int file, line;
    string text;
};

struct Param {
    size_t offset, size;
};

struct Counters {
    u64 launches, instructions, mma, passes, passes_ideal, sectors, sectors_ideal;
};

struct Function; /* parsed, not yet decoded: parse.cpp */

struct Module {
    std::map<string, std::shared_ptr<Function>> functions;
    std::map<string, std::pair<char *, size_t>> variables; /* .global and .const */
    std::map<string, std::pair<size_t, size_t>> shared;    /* size (0: dynamic) and alignment */
    std::map<int, string> files;
};

struct Kernel {
    string name;
    Module *module;
    vector<Param> params;
    size_t param_bytes, shared, local;
    int max_threads; /* of __launch_bounds__, or 1024 */
    bool decoded;
    vector<Inst> code;
    vector<Source> sources;
    vector<u64> consts; /* rows of immediates */
    size_t reg_bytes, preds;
    vector<vector<s32>> tables;
    Counters counters;
    int max_dynamic; /* set by cudaFuncSetAttribute */
};

/* An instruction while it is decoded. */
enum RegKind : u8 { PREDICATE, WORD, LONG, CONST };
struct Operand {
    RegKind kind;
    u64 value; /* number of the register, or the constant */
};
struct Draft {
    Inst in;
    string name;
    vector<string> mods;
    vector<Type> types;
    vector<Operand> dst, src;
    vector<int> groups; /* sizes of the source operands */
    bool has(const char *mod) const
    {
        for (const string &m : mods)
            if (m == mod)
                return true;
        return false;
    }
};

void ptx_module(const char *text, size_t size, Module &m);
bool ptx_kernel(Module &m, const string &name, Kernel &k); /* its parameters; not its code */
void ptx_decode(Kernel &k);
/* Choose what executes an instruction; false: not known. */
bool pick_pure(Draft &d);
bool pick_action(Draft &d);
bool pick_compare(Draft &d); /* setp, set, and, or, xor, not, mov of predicates */
void unknown_instruction(Warp &w, const Inst &in, u32 mask);

/* ---- running ---- */

struct Dim {
    u32 x, y, z;
};

struct Launch {
    Kernel *kernel;
    Dim grid, block;
    size_t dynamic_shared;
    vector<char> params;
    u32 base;      /* ids of its blocks start here + 1; base itself means several of its blocks */
    u32 floor;     /* before griddepcontrol.wait: data touched since this id may not be ready */
    bool overlaps; /* it may start before the launch before it has ended */
};

struct Copy { /* a cp.async in flight */
    int lane;
    u32 group, to, bytes, valid;
    const char *from;
};
struct Group { /* lanes at the same instruction */
    s32 pc;
    u32 mask;
};
struct Block;
struct Warp {
    Block *block;
    char *bank[2]; /* registers, constants */
    vector<u64> regs;
    vector<u32> pred;
    vector<char> local;
    Group groups[33];
    int count;
    u32 alive, waited, epoch;
    int first, index;
    s32 pc, barrier;
    vector<Copy> copies;
    u32 committed[32];
    void *row(u32 op) const
    {
        return bank[op & 1] + (op & ~1u);
    }
};

struct Fault {
    string what;
};
void run_launch(Launch &l);
u32 run_next_id(void);

/* ---- device memory ---- */

struct Allocation {
    u64 base;
    size_t size, missing; /* missing: bytes never written */
    bool host;
    vector<u64> written;  /* a bit per byte */
    u32 *writer, *reader; /* per 4 bytes: last block << 4 | which bytes */
};

void memory_add(u64 base, size_t size, bool host, bool written);
bool memory_remove(u64 base, bool host);
Allocation *memory_find(u64 address);
size_t memory_used(void);
/* What is wrong with touching a range from the host, or "". */
string memory_touch(u64 address, size_t bytes, bool write);
void memory_written(Allocation *a, size_t at, size_t bytes);
bool memory_is_written(const Allocation *a, size_t at, size_t bytes);
void memory_forget_blocks(void); /* block ids start again */

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

float half_to_float(u16 h);
u16 float_to_half(float f);
