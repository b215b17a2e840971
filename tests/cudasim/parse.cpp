/* parse.cpp - PTX text to decoded kernels. A module is scanned for its functions at once; a
 * kernel is decoded when it is first launched. Calls are expanded in place (PTX that nvcc writes
 * does not recurse), so a kernel is one list of instructions. Registers are then packed by
 * liveness, because PTX names thousands and a row should stay in the cache. */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <set>

struct Statement {
    string text;
    bool label;
    int file, line;
};
struct Function {
    string results, params; /* texts between parentheses */
    int max_threads;
    vector<Statement> body;
};

/* ---- texts ---- */

static string trim(const string &s)
{
    size_t a = s.find_first_not_of(" \t\r\n"), b = s.find_last_not_of(" \t\r\n");
    return a == string::npos ? "" : s.substr(a, b - a + 1);
}

static bool starts(const string &s, const char *with)
{
    return s.compare(0, strlen(with), with) == 0;
}

static vector<string> split(const string &s, char at) /* outside brackets */
{
    vector<string> r(1);
    int depth = 0;
    for (char c : s) {
        depth += (c == '{' || c == '[' || c == '(') - (c == '}' || c == ']' || c == ')');
        if (c == at && depth == 0)
            r.emplace_back();
        else
            r.back() += c;
    }
    for (string &x : r)
        x = trim(x);
    if (r.back().empty())
        r.pop_back();
    return r;
}

static string between(const string &s, size_t from, char open, char close)
{
    size_t a = s.find(open, from), b = s.find(close, a + 1);
    return a == string::npos ? "" : s.substr(a + 1, b - a - 1);
}

static Type type_of(const string &s)
{
    if (s == "pred")
        return {'p', 1, 1};
    if (s == "f16x2" || s == "bf16x2")
        return {s[0] == 'b' ? 'q' : 'f', 16, 2};
    if (s == "bf16")
        return {'q', 16, 1};
    if (s.size() < 2 || s.size() > 4 || !strchr("bsuf", s[0]) || !isdigit(s[1]))
        return {0, 0, 0};
    return {s[0], (u8)atoi(s.c_str() + 1), 1};
}

/* ".shared .align 4 .b8 name[128]": what it declares. Values after '=' are not its business. */
struct Declared {
    string name;
    Type type;
    size_t size, align;
};
static Declared declaration(const string &s)
{
    Declared d = {"", {0, 0, 0}, 0, 0};
    size_t bracket = s.find('['), end = std::min(bracket, s.find('='));
    vector<string> words = split(trim(s.substr(0, end)), ' ');
    for (size_t i = 0; i < words.size(); i++) {
        string w = trim(words[i]);
        if (w == ".align")
            d.align = atoi(words[++i].c_str());
        else if (w[0] == '.' && type_of(w.substr(1)).kind)
            d.type = type_of(w.substr(1));
        else if (w[0] != '.')
            d.name = w;
    }
    d.size = d.type.bits / 8;
    if (d.align == 0)
        d.align = d.size ? d.size : 1;
    if (bracket < s.find('='))
        d.size *= strtoull(s.c_str() + bracket + 1, 0, 0);
    return d;
}

static string one_space(string s)
{
    std::replace(s.begin(), s.end(), '\t', ' ');
    return s;
}

/* ---- modules ---- */

static void declare_variable(Module &m, const string &s)
{
    Declared d = declaration(s);
    char *p = (char *)aligned_alloc(256, (d.size + 511) / 256 * 256);
    memset(p, 0, d.size);
    size_t equal = s.find('='), at = 0;
    if (equal != string::npos) {
        string list =
            s.find('{') == string::npos ? s.substr(equal + 1) : between(s, equal, '{', '}');
        for (const string &v : split(list, ',')) {
            const char *t = v.c_str();
            u64 bits = t[0] == '0' && strchr("fFdD", t[1]) && t[1] ? strtoull(t + 2, 0, 16)
                       : t[0] == '-'                               ? (u64)strtoll(t, 0, 0)
                                                                   : strtoull(t, 0, 0);
            memcpy(p + at, &bits, d.type.bits / 8);
            at += d.type.bits / 8;
        }
    }
    m.variables[d.name] = {p, d.size};
    memory_add((u64)p, d.size, false, true);
}

/* Cuts a function's body into statements. They end in ; or are a label; a brace where a statement
 * could begin is a block, else part of an operand. False when the last block has closed. */
static bool body_line(Function &f, const string &line, string &open, int &depth, int file, int at)
{
    for (char c : line + " ") {
        bool fresh = open.find_first_not_of(' ') == string::npos;
        if (fresh && (c == '{' || c == '}')) {
            depth += c == '{' ? 1 : -1;
            if (depth == 0)
                return false;
            continue;
        }
        bool label = c == ':' && trim(open).find_first_of(" .") == string::npos;
        if (c != ';' && !label) {
            open += c;
            continue;
        }
        f.body.push_back({trim(open), label, file, at});
        open.clear();
    }
    return true;
}

void ptx_module(const char *text, size_t size, Module &m)
{
    string head, open;
    std::shared_ptr<Function> f; /* whose body this is */
    int depth = 0, file = 0, at = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        const char *newline = (const char *)memchr(p, '\n', end - p);
        string line(p, newline ? newline : end);
        p = newline ? newline + 1 : end;
        line = trim(one_space(line.substr(0, line.find("//"))));
        if (line.empty() || starts(line, ".version") || starts(line, ".target") ||
            starts(line, ".address_size"))
            continue;
        if (starts(line, ".file ")) {
            string name = between(line, 0, '"', '"');
            m.files[atoi(line.c_str() + 6)] = name.substr(name.rfind('/') + 1);
        } else if (f && starts(line, ".loc ")) {
            sscanf(line.c_str(), ".loc %d %d", &file, &at);
        } else if (f) {
            if (!body_line(*f, line, open, depth, file, at))
                f.reset();
        } else if (line == "{" && head.find('(') != string::npos) {
            size_t entry = head.find(".entry"), func = head.find(".func");
            size_t from = entry != string::npos ? entry + 6 : func + 5;
            f = std::make_shared<Function>();
            if (entry == string::npos && trim(head.substr(from))[0] == '(') {
                f->results = between(head, from, '(', ')');
                from = head.find(')', from) + 1;
            }
            f->params = between(head, from, '(', ')');
            size_t limit = head.find(".maxntid");
            f->max_threads = 1024;
            int n[3] = {1024, 1, 1};
            if (limit != string::npos && sscanf(&head[limit + 8], "%d , %d , %d", n, n + 1, n + 2))
                f->max_threads = n[0] * n[1] * n[2];
            m.functions[trim(head.substr(from, head.find_first_of("(", from) - from))] = f;
            head.clear();
            open.clear();
            depth = 1;
        } else {
            head += line + " ";
            if (line.back() != ';')
                continue;
            head.resize(head.rfind(';'));
            if (head.find(".func") != string::npos || head.find(".entry") != string::npos) {
            } else if (head.find(".shared") != string::npos) {
                Declared d = declaration(head);
                m.shared[d.name] = {d.size, d.align};
            } else if (head.find(".global") != string::npos ||
                       head.find(".const") != string::npos) {
                declare_variable(m, head);
            }
            head.clear();
        }
    }
}

/* ---- kernels ---- */

static size_t align_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

bool ptx_kernel(Module &m, const string &name, Kernel &k)
{
    auto f = m.functions.find(name);
    if (f == m.functions.end())
        return false;
    k.name = name;
    k.module = &m;
    k.max_threads = f->second->max_threads;
    for (const string &p : split(f->second->params, ',')) {
        Declared d = declaration(p);
        k.param_bytes = align_up(k.param_bytes, d.align);
        k.params.push_back({k.param_bytes, d.size});
        k.param_bytes += d.size;
    }
    return true;
}

struct Symbol {
    Space space;
    u64 value;
};
struct Scope { /* one expansion of one function */
    std::unordered_map<string, Operand> registers;
    std::unordered_map<string, RegKind> prefixes;
    std::unordered_map<string, Symbol> symbols;
    string labels; /* what makes its labels unique; "" for the kernel itself */
};
struct Unsupported {
};
struct Decoder {
    Kernel &k;
    vector<Draft> code;
    vector<RegKind> kinds; /* of the numbered registers */
    std::unordered_map<string, Symbol> shared;
    std::unordered_map<string, s32> labels;
    std::unordered_map<string, vector<string>> tables;
    vector<std::pair<size_t, string>> jumps;
    int calls;
};

static Operand new_register(Decoder &c, RegKind kind)
{
    if (kind == PREDICATE)
        return {kind, c.k.preds++};
    c.kinds.push_back(kind);
    return {kind, c.kinds.size() - 1};
}

static Operand symbol_value(Decoder &c, Scope &s, const string &text, Space *space)
{
    size_t plus = text.find('+');
    string name = trim(text.substr(0, plus));
    s64 more = plus == string::npos ? 0 : strtoll(text.c_str() + plus + 1, 0, 0);
    const Symbol *found = nullptr;
    Symbol global;
    if (s.symbols.count(name))
        found = &s.symbols[name];
    else if (c.shared.count(name))
        found = &c.shared[name];
    else if (c.k.module->variables.count(name)) {
        global = {GLOBAL, (u64)c.k.module->variables[name].first};
        found = &global;
    }
    if (!found)
        throw Unsupported{};
    if (space)
        *space = found->space;
    return {CONST, found->value + more};
}

static Operand operand(Decoder &c, Scope &s, const string &text, Space *space)
{
    auto r = s.registers.find(text);
    if (r != s.registers.end())
        return r->second;
    if (text == "_")
        return new_register(c, WORD);
    if (text[0] == '%') {
        auto p = s.prefixes.find(text.substr(0, text.find_last_not_of("0123456789") + 1));
        if (p == s.prefixes.end())
            throw Unsupported{};
        return s.registers[text] = new_register(c, p->second);
    }
    const char *t = text.c_str();
    if (t[0] == '0' && t[1] && strchr("fFdD", t[1]))
        return {CONST, strtoull(t + 2, 0, 16)};
    if (isdigit(t[0]) || t[0] == '-')
        return {CONST, t[0] == '-' ? (u64)strtoll(t, 0, 0) : strtoull(t, 0, 0)};
    return symbol_value(c, s, text, space);
}

/* One operand as it is written: a register or constant, a {vector}, an [address], or p|q. */
static void operands(Decoder &c, Scope &s, string text, vector<Operand> &to, Draft &d, int *address)
{
    if (text[0] == '[') {
        text = trim(text.substr(1, text.size() - 2));
        size_t plus = text.find('+');
        if (text[0] == '%' && plus != string::npos) {
            d.in.offset[*address] = strtoll(text.c_str() + plus + 1, 0, 0);
            text = trim(text.substr(0, plus));
        }
        Space space = PARAM;
        to.push_back(operand(c, s, text, &space));
        d.in.wide_address |= *address == 0 && to.back().kind != WORD;
        if (d.in.space == PARAM && (space == LOCAL || !s.labels.empty()))
            d.in.space = LOCAL; /* arguments of a call */
        ++*address;
    } else if (text[0] == '{') {
        for (const string &x : split(text.substr(1, text.size() - 2), ','))
            to.push_back(operand(c, s, x, nullptr));
    } else {
        d.in.trans |= text[0] == '!'; /* a negated predicate */
        text = text.substr(text[0] == '!');
        for (const string &x : split(text, '|'))
            to.push_back(operand(c, s, x, nullptr));
    }
}

static const char *const specials[] = {
    "%tid.x",       "%tid.y",       "%tid.z",       "%ntid.x",
    "%ntid.y",      "%ntid.z",      "%ctaid.x",     "%ctaid.y",
    "%ctaid.z",     "%nctaid.x",    "%nctaid.y",    "%nctaid.z",
    "%laneid",      "%warpid",      "WARP_SZ",      "%dynamic_smem_size",
    "%clock",       "%clock64",     "%globaltimer", "%lanemask_lt",
    "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%lanemask_eq"};

static bool without_result(const Draft &d)
{
    static const std::set<string> names = {"st",      "red",       "bar",       "barrier",
                                           "cp",      "membar",    "fence",     "prefetch",
                                           "trap",    "stmatrix",  "nanosleep", "griddepcontrol",
                                           "discard", "prefetchu", "exit",      "ret"};
    return names.count(d.name) && !d.has("red");
}

/* Decodes one instruction; what cannot be decoded becomes a fault that waits to be executed. */
static void instruction(Decoder &c, Scope &s, string text)
{
    Draft d = {};
    d.in.pred = -1;
    try {
        if (text[0] == '@') {
            size_t space = text.find(' ');
            d.in.negate = text[1] == '!' ? ~0u : 0;
            d.in.pred =
                operand(c, s, text.substr(text[1] == '!' ? 2 : 1, space - (text[1] == '!' ? 2 : 1)),
                        0)
                    .value;
            text = trim(text.substr(space));
        }
        size_t space = text.find(' ');
        d.mods = split(text.substr(0, space), '.');
        vector<string> ops = split(space == string::npos ? "" : text.substr(space), ',');
        d.name = d.mods[0];
        for (const string &m : d.mods) {
            if (type_of(m).kind)
                d.types.push_back(type_of(m));
            Space in = m == "global" || m == "const"           ? GLOBAL
                       : m == "local"                          ? LOCAL
                       : starts(m, "param")                    ? PARAM
                       : starts(m, "shared") && d.name != "cp" ? SHARED
                                                               : GENERIC;
            if (in)
                d.in.space = in;
        }
        d.in.type = d.types.empty() ? Type{'b', 32, 1} : d.types[0];
        if (d.name == "bra" || (d.name == "ret" && !s.labels.empty())) {
            d.in.flow = BRANCH;
            c.jumps.push_back({c.code.size(), s.labels + (d.name == "bra" ? ops[0] : "return")});
        } else if (d.name == "brx") {
            d.in.flow = TABLE;
            d.src.push_back(operand(c, s, ops[0], nullptr));
            c.jumps.push_back({c.code.size(), s.labels + ops[1]});
        } else if (d.name == "ret" || d.name == "exit") {
            d.in.flow = EXIT;
        } else {
            int address = 0;
            for (int i = 0; d.name == "mov" && i < (int)(sizeof specials / sizeof *specials); i++)
                if (ops[1] == specials[i]) {
                    d.name = "special";
                    d.in.mode = i;
                    ops.pop_back();
                    break;
                }
            for (size_t i = 0; i < ops.size(); i++) {
                size_t before = d.src.size();
                bool result = i == 0 && !without_result(d);
                operands(c, s, ops[i], result ? d.dst : d.src, d, &address);
                if (!result)
                    d.groups.push_back(d.src.size() - before);
            }
            if (d.dst.size() + d.src.size() > sizeof d.in.op / 4 ||
                !(pick_pure(d) || pick_action(d)))
                throw Unsupported{};
        }
    } catch (Unsupported &) {
        d.dst.clear();
        d.src.clear();
        d.in.flow = ACTION;
        d.in.act = unknown_instruction;
    }
    c.code.push_back(d);
}

static void body(Decoder &c, Scope &s, const Function &f);

/* call (result), name, (arguments): the body of the function, with its parameters where the
 * caller put the arguments (both are in local memory). */
static void call(Decoder &c, Scope &s, const string &text)
{
    vector<string> ops = split(text.substr(text.find(' ')), ','), args, results;
    if (ops[0][0] == '(') {
        results = split(between(ops[0], 0, '(', ')'), ',');
        ops.erase(ops.begin());
    }
    if (ops.size() > 1)
        args = split(between(ops[1], 0, '(', ')'), ',');
    auto f = c.k.module->functions.find(ops[0]);
    if (f == c.k.module->functions.end() || text[0] == '@') {
        instruction(c, s, "call_of_unknown " + text);
        return;
    }
    Scope inner;
    inner.labels = std::to_string(++c.calls) + ".";
    vector<string> in = split(f->second->params, ','), out = split(f->second->results, ',');
    for (size_t i = 0; i < in.size() && i < args.size(); i++)
        inner.symbols[declaration(in[i]).name] = s.symbols[args[i]];
    for (size_t i = 0; i < out.size() && i < results.size(); i++)
        inner.symbols[declaration(out[i]).name] = s.symbols[results[i]];
    body(c, inner, *f->second);
    c.labels[inner.labels + "return"] = c.code.size();
}

static void declare_registers(Decoder &c, Scope &s, const string &text) /* .reg .b32 %r<12> */
{
    size_t type = text.find('.', 4), names = text.find(' ', type);
    Type t = type_of(trim(text.substr(type + 1, names - type - 1)));
    RegKind kind = t.kind == 'p' ? PREDICATE : t.bits == 64 ? LONG : WORD;
    for (const string &r : split(text.substr(names), ',')) {
        size_t range = r.find('<');
        if (range == string::npos)
            s.registers[r] = new_register(c, kind);
        else
            s.prefixes[r.substr(0, range)] = kind;
    }
}

static void body(Decoder &c, Scope &s, const Function &f)
{
    string label;
    for (const Statement &t : f.body) {
        if (t.label) {
            label = s.labels + t.text;
            c.labels[label] = c.code.size();
        } else if (starts(t.text, ".branchtargets")) {
            for (const string &l : split(t.text.substr(14), ','))
                c.tables[label].push_back(s.labels + l);
        } else if (starts(t.text, ".reg")) {
            declare_registers(c, s, t.text);
        } else if (starts(t.text, ".local") || starts(t.text, ".param")) {
            Declared d = declaration(t.text);
            c.k.local = align_up(c.k.local, std::max<size_t>(d.align, 8));
            s.symbols[d.name] = {LOCAL, c.k.local};
            c.k.local += d.size;
        } else if (t.text.empty() || starts(t.text, ".shared") || starts(t.text, ".pragma") ||
                   starts(t.text, ".callprototype")) {
        } else if (starts(t.text, "call") || t.text.find(" call") != string::npos) {
            call(c, s, t.text);
        } else {
            instruction(c, s, t.text);
        }
        while (c.k.sources.size() < c.code.size())
            c.k.sources.push_back({t.file, t.line, t.text});
    }
}

/* Places the shared variables that a function and what it calls use; dynamic ones go last. */
static void place_shared(Decoder &c, const Function &f, std::set<string> &dynamic)
{
    auto place = [&](const string &name, size_t size, size_t align) {
        if (c.shared.count(name))
            return;
        c.k.shared = align_up(c.k.shared, align);
        c.shared[name] = {SHARED, c.k.shared};
        c.k.shared += size;
    };
    for (const Statement &t : f.body) {
        if (starts(t.text, ".shared")) {
            Declared d = declaration(t.text);
            place(d.name, d.size, d.align);
        }
        for (auto &v : c.k.module->shared) {
            if (t.text.find(v.first) == string::npos)
                continue;
            if (v.second.first)
                place(v.first, v.second.first, v.second.second);
            else
                dynamic.insert(v.first);
        }
        if (t.text.find("call") == 0)
            for (auto &g : c.k.module->functions)
                if (t.text.find(" " + g.first + ",") != string::npos)
                    place_shared(c, *g.second, dynamic);
    }
}

/* ---- registers ---- */

/* How many bits a lane of a constant source must have. */
static int constant_bits(const Draft &d, size_t i)
{
    const string &n = d.name;
    const Type &t = d.in.type;
    bool address = n == "ld" || n == "st" || n == "atom" || n == "red" || n == "cp" ||
                   n == "prefetch" || n == "ldmatrix" || n == "stmatrix";
    if (address && i == 0)
        return 64;
    if (n == "cp")
        return i == 1 ? 64 : 32;
    if (n == "shl" || n == "shr" || n == "bfe")
        return i == 0 ? t.bits : 32;
    if (n == "bfi")
        return i < 2 ? t.bits : 32;
    if (n == "mad" && d.has("wide") && i == 2)
        return t.bits * 2;
    if (n == "mov")
        return t.bits / (int)std::max<size_t>(d.src.size(), 1);
    if (n == "cvt" || n == "set" || n == "slct")
        return d.types.back().bits;
    return n == "special" || n == "mma" ? 32 : t.bits;
}

struct Interval {
    int first, last;
};

/* Where each register is live, as one stretch of the code, from the liveness of basic blocks. */
static vector<Interval> live_intervals(Decoder &c)
{
    const vector<Draft> &code = c.code;
    int n = code.size(), words = (c.kinds.size() + 63) / 64;
    vector<bool> leader(n + 1);
    for (auto &l : c.labels)
        leader[l.second] = true;
    vector<int> starts_at, block_of(n + 1);
    for (int i = 0; i < n; i++) {
        if (i == 0 || leader[i] ||
            (code[i - 1].in.flow >= BRANCH && code[i - 1].in.flow != BARRIER))
            starts_at.push_back(i);
        block_of[i] = starts_at.size() - 1;
    }
    int blocks = starts_at.size();
    starts_at.push_back(n);
    vector<vector<u64>> in(blocks, vector<u64>(words)), out = in, use = in, def = in;
    vector<Interval> live(c.kinds.size(), {n, -1});
    auto occurs = [&](u64 r, int at) {
        live[r].first = std::min(live[r].first, at);
        live[r].last = std::max(live[r].last, at);
    };
    for (int i = 0; i < n; i++) {
        vector<u64> &u = use[block_of[i]], &d = def[block_of[i]];
        for (const Operand &o : code[i].src)
            if (o.kind == WORD || o.kind == LONG) {
                occurs(o.value, i);
                u[o.value / 64] |= ~d[o.value / 64] & 1ull << o.value % 64;
            }
        for (const Operand &o : code[i].dst)
            if (o.kind == WORD || o.kind == LONG) {
                occurs(o.value, i);
                if (code[i].in.pred < 0)
                    d[o.value / 64] |= 1ull << o.value % 64;
                else /* the value from before may survive */
                    u[o.value / 64] |= ~d[o.value / 64] & 1ull << o.value % 64;
            }
    }
    for (bool more = true; more;) {
        more = false;
        for (int b = blocks - 1; b >= 0; b--) {
            int last = starts_at[b + 1] - 1;
            const Inst &end = code[last].in;
            auto join = [&](int to) {
                if (to < n)
                    for (int w = 0; w < words; w++)
                        out[b][w] |= in[block_of[to]][w];
            };
            if (end.flow == BRANCH)
                join(end.target);
            if (end.flow == TABLE)
                for (s32 to : c.k.tables[end.target])
                    join(to);
            if (end.pred >= 0 || !(end.flow == BRANCH || end.flow == TABLE || end.flow == EXIT))
                join(last + 1);
            for (int w = 0; w < words; w++) {
                u64 now = use[b][w] | (out[b][w] & ~def[b][w]);
                more |= now != in[b][w];
                in[b][w] = now;
            }
        }
    }
    for (int b = 0; b < blocks; b++)
        for (size_t r = 0; r < c.kinds.size(); r++) {
            if (in[b][r / 64] >> r % 64 & 1)
                occurs(r, starts_at[b]);
            if (out[b][r / 64] >> r % 64 & 1)
                occurs(r, starts_at[b + 1] - 1);
        }
    return live;
}

/* Gives each register a row; rows are shared by registers that do not live at the same time. */
static vector<u32> place_registers(Decoder &c)
{
    vector<Interval> live = live_intervals(c);
    vector<vector<u32>> begin(c.code.size() + 1), end(c.code.size() + 1);
    for (u32 r = 0; r < live.size(); r++)
        if (live[r].last >= 0) {
            begin[live[r].first].push_back(r);
            end[live[r].last].push_back(r);
        }
    vector<u32> slot(live.size()), spare[2];
    u32 used[2] = {0, 0};
    for (size_t i = 0; i < c.code.size(); i++) {
        for (u32 r : begin[i]) {
            int wide = c.kinds[r] == LONG;
            if (spare[wide].empty())
                spare[wide].push_back(used[wide]++);
            slot[r] = spare[wide].back();
            spare[wide].pop_back();
        }
        for (u32 r : end[i])
            spare[c.kinds[r] == LONG].push_back(slot[r]);
    }
    for (u32 r = 0; r < live.size(); r++)
        slot[r] = c.kinds[r] == LONG ? slot[r] * 256 : used[1] * 256 + slot[r] * 128;
    c.k.reg_bytes = used[1] * 256 + used[0] * 128;
    return slot;
}

/* Names become numbers: jumps, rows of registers, rows of constants. */
static void finish(Decoder &c)
{
    Kernel &k = c.k;
    c.code.emplace_back(); /* a label at the end needs an instruction */
    c.code.back().in.flow = EXIT;
    c.code.back().in.pred = -1;
    k.sources.push_back({0, 0, "the end"});
    for (auto &j : c.jumps) {
        Inst &in = c.code[j.first].in;
        if (in.flow == TABLE) {
            in.target = k.tables.size();
            k.tables.emplace_back();
            for (const string &l : c.tables[j.second])
                k.tables.back().push_back(c.labels[l]);
        } else {
            in.target = c.labels.at(j.second);
        }
    }
    vector<u32> slot = place_registers(c);
    std::map<std::pair<bool, u64>, u32> rows;
    for (Draft &d : c.code) {
        u32 *to = d.in.op;
        d.in.dsts = d.dst.size();
        d.in.srcs = d.src.size();
        for (const Operand &o : d.dst)
            *to++ = o.kind == PREDICATE ? (u32)o.value : slot[o.value];
        for (size_t i = 0; i < d.src.size(); i++) {
            const Operand &o = d.src[i];
            bool wide = constant_bits(d, i) == 64;
            if (o.kind == CONST && d.in.type.kind == 'p') {
                *to++ = o.value ? 1 : 0;
            } else if (o.kind == CONST) {
                auto row =
                    rows.emplace(std::make_pair(wide, o.value), (u32)k.consts.size() * 8 + 1);
                for (int w = 0; row.second && w < (wide ? 32 : 16); w++)
                    k.consts.push_back(wide ? o.value : (o.value & 0xffffffff) | o.value << 32);
                *to++ = row.first->second;
            } else {
                *to++ = o.kind == PREDICATE ? (u32)o.value : slot[o.value];
            }
        }
        k.code.push_back(d.in);
    }
}

void ptx_decode(Kernel &k)
{
    Decoder c = {k, {}, {}, {}, {}, {}, {}, 0};
    const Function &f = *k.module->functions[k.name];
    std::set<string> dynamic;
    place_shared(c, f, dynamic);
    k.preds = 2; /* 0: never, 1: always */
    if (!dynamic.empty()) {
        size_t align = 16;
        for (const string &d : dynamic)
            align = std::max(align, k.module->shared[d].second);
        k.shared = align_up(k.shared, align);
        for (const string &d : dynamic)
            c.shared[d] = {SHARED, k.shared};
    }
    Scope s;
    size_t at = 0;
    for (const string &p : split(f.params, ','))
        s.symbols[declaration(p).name] = {PARAM, k.params[at++].offset};
    body(c, s, f);
    finish(c);
    k.decoded = true;
}
