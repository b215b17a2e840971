/* parse.cpp - PTX text to decoded kernels. A module is cut into statements of tokens at once; a
 * kernel is decoded when it is first launched. Calls are expanded in place (what nvcc writes does
 * not recurse), so that a kernel is one list of instructions. */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include <set>

typedef vector<string> Tokens;
struct Statement {
    Tokens t; /* a label is its name and ":" */
    Source source;
};
struct Function {
    vector<Declared> results, params;
    int max_threads;
    vector<Statement> body;
};

static bool starts(const string &s, const char *with)
{
    return s.compare(0, strlen(with), with) == 0;
}

static bool mentions(const Tokens &t, const char *word)
{
    return std::find(t.begin(), t.end(), word) != t.end();
}

static Type type_of(const string &s)
{
    if (s == "pred")
        return {'p', 1, 1, 0};
    if (s == "f16x2" || s == "bf16x2")
        return {s[0] == 'b' ? 'q' : 'f', 16, 2, 0};
    if (s == "bf16")
        return {'q', 16, 1, 0};
    if (s.size() < 2 || s.size() > 3 || !strchr("bsuf", s[0]) || !isdigit(s[1]))
        return {0, 0, 0, 0};
    return {s[0], (u8)atoi(s.c_str() + 1), 1, 0};
}

static u64 number(const string &s)
{
    const char *t = s.c_str();
    if (t[0] == '0' && t[1] && strchr("fFdD", t[1]))
        return strtoull(t + 2, 0, 16);
    return t[0] == '-' ? (u64)strtoll(t, 0, 0) : strtoull(t, 0, 0);
}

/* ".align 4 .b8 name [ 128 ]" from token i on, which moves behind it. */
static Declared declaration(const Tokens &t, size_t &i)
{
    Declared d = {"", {0, 0, 0, 0}, 0, 0, 0};
    for (; i < t.size() && t[i] != "," && t[i] != ")" && t[i] != "="; i++) {
        if (t[i] == ".align")
            d.align = number(t[++i]);
        else if (t[i] == "[")
            d.size *= t[i + 1] == "]" ? 0 : number(t[i + 1]);
        else if (t[i][0] == '.' && type_of(t[i].substr(1)).kind)
            d.size = (d.type = type_of(t[i].substr(1))).bits / 8;
        else if (t[i][0] != '.' && d.name.empty())
            d.name = t[i];
    }
    d.align = d.align ? d.align : std::max<size_t>(d.type.bits / 8, 1);
    return d;
}

static size_t align_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static void declare_variable(Module &m, const Tokens &t)
{
    size_t i = 0, at = 0;
    Declared d = declaration(t, i);
    char *p = (char *)aligned_alloc(256, align_up(d.size + 256, 256));
    memset(p, 0, d.size);
    for (; i < t.size(); i++)
        if (isdigit(t[i][0]) || t[i][0] == '-') {
            u64 v = number(t[i]);
            memcpy(p + at, &v, d.type.bits / 8);
            at += d.type.bits / 8;
        }
    m.variables[d.name] = {p, d.size};
    memory_add((u64)p, d.size, false);
    memory_touch((u64)p, d.size, true);
}

/* ".visible .entry name ( .param .u64 a, ...) .maxntid 128, 1, 1": a new function. */
static std::shared_ptr<Function> declare_function(Module &m, const Tokens &t)
{
    auto f = std::make_shared<Function>();
    string name;
    f->max_threads = 1024;
    for (size_t i = 0; i < t.size(); i++) {
        if (t[i] == ".param") {
            (name.empty() ? f->results : f->params).push_back(declaration(t, i));
            i--;
        } else if (t[i] == ".maxntid") {
            f->max_threads = number(t[++i]);
            while (i + 2 < t.size() && t[i + 1] == ",")
                f->max_threads *= number(t[i += 2]);
        } else if (name.empty() && t[i][0] != '.' && !strchr("(),", t[i][0])) {
            name = t[i];
        }
    }
    return m.functions[name] = f;
}

static void declare(Module &m, const Tokens &t) /* a statement outside of functions */
{
    size_t i = 0;
    if (mentions(t, ".func") || mentions(t, ".entry"))
        return;
    if (mentions(t, ".shared")) {
        Declared d = declaration(t, i);
        m.shared[d.name] = d;
    } else if (mentions(t, ".global") || mentions(t, ".const")) {
        declare_variable(m, t);
    }
}

/* The tokens of a line are added to the statement that is open. */
static void tokens_of(const string &line, Tokens &to)
{
    string word;
    for (size_t i = 0; i <= line.size(); i++) {
        char c = i < line.size() ? line[i] : ' ';
        bool pair = c == ':' && (line[i + 1] == ':' || (i && line[i - 1] == ':'));
        bool mark = strchr(",;{}[]()+|!<>=:@", c) && !pair;
        if (!mark && !isspace(c)) {
            word += c;
            continue;
        }
        if (!word.empty())
            to.push_back(word);
        word.clear();
        if (mark)
            to.push_back(string(1, c));
    }
}

/* Statements end in ; or are a label; a brace where one could begin is a block, else an operand. */
void ptx_module(const char *text, size_t size, Module &m)
{
    std::shared_ptr<Function> f; /* whose body this is */
    Statement s = {};
    int depth = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        const char *newline = (const char *)memchr(p, '\n', end - p);
        string line(p, newline ? newline : end);
        p = newline ? newline + 1 : end;
        line = line.substr(0, line.find("//"));
        Tokens tokens;
        tokens_of(line, tokens);
        if (tokens.empty() || tokens[0] == ".version" || tokens[0] == ".target" ||
            tokens[0] == ".address_size")
            continue;
        if (tokens[0] == ".file") {
            string name = line.substr(line.find('"') + 1, line.rfind('"') - line.find('"') - 1);
            m.files[number(tokens[1])] = name.substr(name.rfind('/') + 1);
            continue;
        }
        if (tokens[0] == ".loc") {
            auto by = std::find(tokens.begin(), tokens.end(), "inlined_at");
            bool inlined = by != tokens.end();
            s.source = {(int)number(tokens[1]), (int)number(tokens[2]),
                        inlined ? (int)number(by[1]) : 0, inlined ? (int)number(by[2]) : 0, ""};
            continue;
        }
        for (const string &t : tokens) {
            if (t == "{" && !f && (mentions(s.t, ".entry") || mentions(s.t, ".func"))) {
                f = declare_function(m, s.t);
                depth = 1;
            } else if (f && s.t.empty() && (t == "{" || t == "}")) {
                depth += t == "{" ? 1 : -1;
                if (depth == 0)
                    f.reset();
                continue;
            } else if (t == ";" || (t == ":" && s.t.size() == 1)) {
                if (t == ":")
                    s.t.push_back(t);
                if (f)
                    f->body.push_back(s);
                else
                    declare(m, s.t);
            } else {
                s.t.push_back(t);
                continue;
            }
            s.t.clear();
        }
    }
}

bool ptx_kernel(Module &m, const string &name, Kernel &k)
{
    auto f = m.functions.find(name);
    if (f == m.functions.end())
        return false;
    k.name = name;
    k.module = &m;
    k.max_threads = f->second->max_threads;
    for (Declared d : f->second->params) {
        d.offset = align_up(k.param_bytes, d.align);
        k.param_bytes = d.offset + d.size;
        k.params.push_back(d);
    }
    return true;
}

/* ---- decoding ---- */

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
struct Decoder {
    Kernel &k;
    vector<Draft> code;
    std::unordered_map<string, Symbol> shared;
    std::unordered_map<string, s32> labels;
    std::unordered_map<string, Tokens> tables;
    vector<std::pair<size_t, string>> jumps;
    int calls;
};
struct Unsupported {
};

static Operand new_register(Kernel &k, RegKind kind)
{
    if (kind == PREDICATE)
        return {kind, k.preds++};
    k.reg_bytes += kind == LONG ? 256 : 128;
    return {kind, k.reg_bytes - (kind == LONG ? 256 : 128)};
}

static Operand operand(Decoder &c, Scope &s, const string &t, Space *space)
{
    auto r = s.registers.find(t);
    if (r != s.registers.end())
        return r->second;
    if (t[0] == '%' || t == "_") {
        auto p = s.prefixes.find(t.substr(0, t.find_last_not_of("0123456789") + 1));
        if (t != "_" && p == s.prefixes.end())
            throw Unsupported{};
        return s.registers[t] = new_register(c.k, t == "_" ? WORD : p->second);
    }
    if (isdigit(t[0]) || t[0] == '-')
        return {CONST, number(t)};
    auto variable = c.k.module->variables.find(t);
    Symbol found = {GLOBAL, 0};
    if (s.symbols.count(t))
        found = s.symbols[t];
    else if (c.shared.count(t))
        found = c.shared[t];
    else if (variable != c.k.module->variables.end())
        found.value = (u64)variable->second.first;
    else
        throw Unsupported{};
    *space = found.space;
    return {CONST, found.value};
}

static const char *const specials[] = {
    "%tid.x",       "%tid.y",       "%tid.z",       "%ntid.x",
    "%ntid.y",      "%ntid.z",      "%ctaid.x",     "%ctaid.y",
    "%ctaid.z",     "%nctaid.x",    "%nctaid.y",    "%nctaid.z",
    "%laneid",      "%warpid",      "WARP_SZ",      "%dynamic_smem_size",
    "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge",
    "%lanemask_eq", "%clock",       "%clock64",     "%globaltimer"};

static bool without_result(const Draft &d)
{
    static const std::set<string> names = {
        "st",   "red",      "bar",      "barrier", "cp",        "membar", "fence",
        "trap", "prefetch", "stmatrix", "discard", "nanosleep", "brx",    "griddepcontrol"};
    return names.count(d.name);
}

/* The operands from token i on: registers, constants, {vectors}, [addresses + offset], p|q, !p. */
static void operands(Decoder &c, Scope &s, const Tokens &t, size_t i, Draft &d)
{
    vector<Operand> *to = without_result(d) ? &d.src : &d.dst;
    int depth = 0, addresses = 0;
    for (; i < t.size(); i++) {
        char mark = t[i][0];
        depth += (mark == '{' || mark == '[') - (mark == '}' || mark == ']');
        addresses += mark == '[';
        d.in.option |= mark == '!';
        if (mark == ',' && depth == 0)
            to = &d.src;
        if (mark == '+' && to->back().kind == CONST)
            to->back().value += number(t[++i]);
        else if (mark == '+')
            d.in.offset[addresses - 1] = number(t[++i]);
        if (strchr("{}[],|!+", mark))
            continue;
        Space space = PARAM;
        to->push_back(operand(c, s, t[i], &space));
        if (depth && t[i - 1] == "[") {
            d.in.wide_address |= addresses == 1 && to->back().kind != WORD;
            if (d.in.space == PARAM && (space == LOCAL || !s.labels.empty()))
                d.in.space = LOCAL; /* arguments of a call */
        }
    }
}

static void decode(Decoder &c, Scope &s, const Tokens &t, Draft &d)
{
    size_t i = 0;
    if (t[0] == "@") {
        d.in.negate = t[1] == "!" ? ~0u : 0;
        i = t[1] == "!" ? 3 : 2;
        d.in.pred = operand(c, s, t[i - 1], nullptr).value;
    }
    for (size_t from = 0, dot = 0; dot != string::npos; from = dot + 1) {
        dot = t[i].find('.', from);
        d.mods.push_back(t[i].substr(from, dot - from));
    }
    d.name = d.mods[0];
    for (const string &m : d.mods) {
        if (type_of(m).kind)
            d.types.push_back(type_of(m));
        Space in = m == "global" || m == "const"           ? GLOBAL
                   : m == "local"                          ? LOCAL
                   : starts(m, "param")                    ? PARAM
                   : starts(m, "shared") && d.name != "cp" ? SHARED
                                                           : GENERIC;
        d.in.space = in ? in : d.in.space;
    }
    d.in.type = d.types.empty() ? Type{'b', 32, 1, 0} : d.types[0];
    d.in.type.extra = d.has("sat") ? 's' : d.has("ftz") ? 'z' : 0;
    for (size_t n = 0; d.name == "mov" && n < sizeof specials / sizeof *specials; n++)
        if (t.back() == specials[n]) {
            d.name = "special";
            d.in.mode = n;
            operands(c, s, {t[i], t[i + 1]}, 1, d);
        }
    d.in.flow = d.name == "bra" || (d.name == "ret" && !s.labels.empty()) ? BRANCH
                : d.name == "brx"                                         ? TABLE
                : d.name == "ret" || d.name == "exit"                     ? EXIT
                                                                          : ACTION;
    if (d.in.flow == BRANCH || d.in.flow == TABLE)
        c.jumps.push_back({c.code.size(), s.labels + (d.name == "ret" ? "return" : t.back())});
    if (d.in.flow == TABLE)
        d.src.push_back(operand(c, s, t[i + 1], nullptr));
    if (d.in.flow != ACTION)
        return;
    if (d.name != "special")
        operands(c, s, t, i + 1, d);
    d.in.wide = !d.dst.empty() && d.dst[0].kind == LONG;
    if (d.dst.size() + d.src.size() > UINT8_MAX ||
        !(pick_compare(d) || pick_pure(d) || pick_memory(d) || pick_action(d)))
        throw Unsupported{};
}

/* What cannot be decoded becomes a fault that waits to be executed. */
static void instruction(Decoder &c, Scope &s, const Tokens &t)
{
    Draft d = {};
    d.in.pred = -1;
    try {
        decode(c, s, t, d);
    } catch (Unsupported &) {
        d.dst.clear();
        d.src.clear();
        d.in.flow = ACTION;
        d.in.act = unknown_instruction;
    }
    c.code.push_back(d);
}

static void body(Decoder &c, Scope &s, const Function &f);

/* call (results), name, (arguments): the function's body, with its parameters where the caller
 * put the arguments, which is in local memory. */
static void call(Decoder &c, Scope &s, const Tokens &t)
{
    Tokens lists[2];
    string name;
    for (size_t i = 1, depth = 0; i < t.size(); i++) {
        depth += t[i] == "(" ? 1 : t[i] == ")" ? -1 : 0;
        if (depth && t[i] != "(" && t[i] != ",")
            lists[!name.empty()].push_back(t[i]);
        else if (!depth && name.empty() && t[i] != ")" && t[i] != ",")
            name = t[i];
    }
    auto f = c.k.module->functions.find(name);
    if (f == c.k.module->functions.end()) {
        instruction(c, s, t);
        return;
    }
    Scope inner;
    inner.labels = std::to_string(++c.calls) + ".";
    for (size_t i = 0; i < std::min(f->second->results.size(), lists[0].size()); i++)
        inner.symbols[f->second->results[i].name] = s.symbols[lists[0][i]];
    for (size_t i = 0; i < std::min(f->second->params.size(), lists[1].size()); i++)
        inner.symbols[f->second->params[i].name] = s.symbols[lists[1][i]];
    body(c, inner, *f->second);
    c.labels[inner.labels + "return"] = c.code.size();
}

static void declare_registers(Decoder &c, Scope &s, const Tokens &t) /* .reg .b32 %r < 12 > */
{
    Type type = type_of(t[1].substr(1));
    RegKind kind = type.kind == 'p' ? PREDICATE : type.bits == 64 ? LONG : WORD;
    for (size_t i = 2; i < t.size(); i++) {
        if (i + 1 < t.size() && t[i + 1] == "<") {
            s.prefixes[t[i]] = kind;
            i += 3;
        } else if (t[i] != ",") {
            s.registers[t[i]] = new_register(c.k, kind);
        }
    }
}

static void body(Decoder &c, Scope &s, const Function &f)
{
    string label;
    for (const Statement &st : f.body) {
        const Tokens &t = st.t;
        size_t i = 0;
        if (t.back() == ":") {
            label = s.labels + t[0];
            c.labels[label] = c.code.size();
        } else if (t[0] == ".branchtargets") {
            for (i = 1; i < t.size(); i += 2)
                c.tables[label].push_back(s.labels + t[i]);
        } else if (t[0] == ".reg") {
            declare_registers(c, s, t);
        } else if (t[0] == ".local" || t[0] == ".param") {
            Declared d = declaration(t, i);
            c.k.local = align_up(c.k.local, std::max<size_t>(d.align, 8));
            s.symbols[d.name] = {LOCAL, c.k.local};
            c.k.local += d.size;
        } else if (t[0] == "call" || t[0] == "call.uni") {
            call(c, s, t);
        } else if (t[0][0] != '.') {
            instruction(c, s, t);
        }
        if (c.k.sources.size() == c.code.size())
            continue;
        Source source = st.source;
        for (const string &word : t)
            source.text += word + " ";
        c.k.sources.resize(c.code.size(), source);
    }
}

/* Places the shared variables that a function and what it calls use; dynamic ones share the end. */
static void place_shared(Decoder &c, const Function &f, vector<Declared> &dynamic)
{
    auto place = [&](const Declared &d) {
        if (c.shared.count(d.name))
            return;
        if (d.size == 0)
            dynamic.push_back(d);
        c.k.shared = align_up(c.k.shared, d.size ? d.align : 1);
        c.shared[d.name] = {SHARED, c.k.shared};
        c.k.shared += d.size;
    };
    for (const Statement &s : f.body) {
        size_t i = 0;
        if (s.t[0] == ".shared")
            place(declaration(s.t, i));
        for (const string &t : s.t) {
            auto v = c.k.module->shared.find(t);
            if (v != c.k.module->shared.end())
                place(v->second);
            auto g = starts(s.t[0], "call") ? c.k.module->functions.find(t)
                                            : c.k.module->functions.end();
            if (g != c.k.module->functions.end())
                place_shared(c, *g->second, dynamic);
        }
    }
}

/* How many bits a lane of a constant source must have. */
static int constant_bits(const Draft &d, size_t i)
{
    static const std::set<string> memory = {"ld", "st",       "atom",     "red",
                                            "cp", "ldmatrix", "stmatrix", "prefetch"};
    const string &n = d.name;
    int bits = d.in.type.bits;
    if (memory.count(n) && (i == 0 || n == "cp"))
        return i < 2 ? 64 : 32;
    if (n == "shl" || n == "shr" || n == "bfe" || n == "bfi")
        return i < (n == "bfi" ? 2 : 1) ? bits : 32;
    if (n == "mad" && d.has("wide") && i == 2)
        return bits * 2;
    if (n == "mov")
        return bits / (int)d.src.size();
    return n == "cvt" || n == "set" || n == "slct" ? d.types.back().bits : bits;
}

/* Names become numbers: jumps, and the rows of constants. */
static void finish(Decoder &c)
{
    Kernel &k = c.k;
    std::map<std::pair<bool, u64>, u32> rows;
    instruction(c, *std::make_unique<Scope>(), {"exit"}); /* a label at the end needs one */
    k.sources.push_back({0, 0, 0, 0, "the end"});
    for (auto &j : c.jumps) {
        Inst &in = c.code[j.first].in;
        in.target = in.flow == TABLE ? (s32)k.tables.size() : c.labels.at(j.second);
        if (in.flow != TABLE)
            continue;
        k.tables.emplace_back();
        for (const string &l : c.tables[j.second])
            k.tables.back().push_back(c.labels[l]);
    }
    size_t count = 0;
    for (const Draft &d : c.code)
        count += d.dst.size() + d.src.size();
    k.operands.resize(count);
    u32 *to = k.operands.data();
    for (Draft &d : c.code) {
        d.in.op = to;
        d.in.dsts = d.dst.size();
        d.in.srcs = d.src.size();
        for (const Operand &o : d.dst)
            *to++ = o.value;
        for (size_t i = 0; i < d.src.size(); i++) {
            u64 v = d.src[i].value;
            bool constant = d.src[i].kind == CONST, wide = constant && constant_bits(d, i) == 64;
            if (!constant || d.in.type.kind == 'p') {
                *to++ = constant ? v != 0 : v;
                continue;
            }
            auto row = rows.emplace(std::make_pair(wide, v), (u32)k.consts.size() * 8 + 1);
            if (row.second)
                k.consts.insert(k.consts.end(), wide ? 32 : 16, wide ? v : (u32)v | v << 32);
            *to++ = row.first->second;
        }
        k.code.push_back(d.in);
    }
}

void ptx_decode(Kernel &k)
{
    if (k.decoded)
        return;
    Decoder c = {k, {}, {}, {}, {}, {}, 0};
    const Function &f = *k.module->functions[k.name];
    vector<Declared> dynamic;
    Scope s;
    place_shared(c, f, dynamic);
    size_t align = 16;
    for (const Declared &d : dynamic)
        align = std::max(align, d.align);
    k.shared = dynamic.empty() ? k.shared : align_up(k.shared, align);
    for (const Declared &d : dynamic)
        c.shared[d.name] = {SHARED, k.shared};
    for (const Declared &p : k.params)
        s.symbols[p.name] = {PARAM, p.offset};
    k.preds = 2; /* 0: never, 1: always */
    body(c, s, f);
    finish(c);
    k.decoded = true;
}
