/* mbarrier.cpp - barriers in shared memory: init, arrive, and waits for the end of a phase by its
 * parity. A warp that must wait lets others run and tries again (run.cpp). The end of a phase
 * orders memory as a barrier of the block does. */
#include "sim.h"

struct Phase {
    u16 count, left; /* arrivals of a phase; that are missing */
    u32 number;
};

/* Where lane l's barrier is. */
static Phase *find(Warp &w, const Inst &in, int l)
{
    u64 at[32];
    char *to[32];
    at[l] = load<u32>(w.row(in.op[in.mode == 'i' ? 0 : 1]), l) + (u32)in.offset[0];
    auto touch = in.mode == 'i' ? memory_write_shared : memory_read_shared;
    touch(w, in, 1u << l, at, 8, to);
    return (Phase *)to[l];
}

static void init(Warp &w, const Inst &in, u32 mask)
{
    EACH(mask)
    {
        u16 count = load<u32>(w.row(in.op[1]), l);
        *find(w, in, l) = {count, count, 0};
    }
}

static void arrive(Warp &w, const Inst &in, u32 mask)
{
    EACH(mask)
    {
        Phase *p = find(w, in, l);
        if (p->count == 0)
            fault(w, "this barrier was not initialized", l);
        w.block->steps++;
        if (--p->left == 0) {
            p->left = p->count;
            p->number++;
            memory_next_epoch(*w.block);
        }
    }
}

static void wait(Warp &w, const Inst &in, u32 mask)
{
    u32 over = 0;
    EACH(mask)
    {
        Phase *p = find(w, in, l);
        if (p->count == 0)
            fault(w, "this barrier was not initialized", l);
        over |= (u32)((p->number & 1) != (load<u32>(w.row(in.op[2]), l) & 1)) << l;
    }
    w.pred[in.op[0]] = (w.pred[in.op[0]] & ~mask) | over;
    w.spins = over != mask;
    w.block->steps += !w.spins;
}

Action pick_mbarrier(Draft &d)
{
    bool known = d.in.type.bits == 64 && !d.in.wide_address && !d.has("noComplete") &&
                 d.dst.size() == 1 && (d.has("init") || d.has("parity") || d.src.size() == 1);
    d.in.mode = d.has("init") ? 'i' : 'a';
    return !known                                 ? nullptr
           : d.has("init")                        ? init
           : d.has("try_wait") && d.has("parity") ? wait
           : d.has("arrive")                      ? arrive
                                                  : nullptr;
}
