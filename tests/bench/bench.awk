# bench.awk - lines of "engine case what figure", sorted, to a table a case, the bars and one summary
# line. A case is a size of the SD-Turbo shapes (sizes), "tiny", the model that ships, or "sdxl", SDXL's
# structure at a fifth of its width. The engines "stream" and "lora" have what their programs print.

function flush_group() { if (n) median[key] = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }

function get(engine, name, what) { return (engine " " name " " what) in median ? median[engine " " name " " what] : 0 }

function cell(x, scale) { return x ? sprintf("%10.1f", x * scale) : "         -" }

# The faster peer.
function best(name, what,    a, b) {
    a = get("torch", name, what)
    b = get("onnx", name, what)
    return a && b ? (a < b ? a : b) : a + b
}

function table(name, title,    r, w, scale, peer) {
    printf "\n%-19s %10s %10s %10s %10s %10s %10s\n", title, "ours", "low mem.", "PyTorch", \
           "ONNX RT", "oneDNN", "ours/peer"
    for (r = 1; r <= rows; r++) {
        w = row[r]
        if (w == "first" && name != "tiny") continue
        scale = w == "load" ? 0.001 : 1
        peer = best(name, w)
        printf "%-19s %s %s %s %s %s %s\n", substr(names[r], index(names[r], ":") + 1), \
               cell(get("ours", name, w), scale), cell(get("low", name, w), scale), \
               cell(get("torch", name, w), scale), cell(get("onnx", name, w), scale), \
               cell(get("floor", name, w), scale), \
               (peer && get("ours", name, w) ? sprintf("%10.2f", get("ours", name, w) / peer) : "         -")
    }
}

# Steps in a stream batch and one after the other, as times n single ones; guidance, against none.
function stream_table(    r, n, of) {
    printf "\n%-19s %10s %10s %10s\n", "tiny, steps", "frame, ms", "UNet, ms", "ratio"
    for (r = 1; r <= streams; r++) {
        n = stream[r] ~ /[0-9]$/ ? substr(stream[r], length(stream[r])) : 1
        of = get("stream", stream[r] ~ /^one$|[0-9]$/ ? "one" : "none", "unet")
        printf "%-19s %s %s %10.3f\n", stream[r], cell(get("stream", stream[r], "frame"), 1), \
               cell(get("stream", stream[r], "unet"), 1), of ? get("stream", stream[r], "unet") / (n * of) : 0
    }
    printf "\n%-30s %10s\n", "a change, on the frame", "ms"
    for (r = 1; r <= changes; r++) printf "%-30s %10.2f\n", change[r], get("stream", "change", change[r])
    for (r = 1; r <= 3; r++)
        printf "%-30s %s\n", "LoRA of SD 1.5, rank 16: " lora[r], cell(get("lora", "sd15", lora[r]), 1)
}

function stream_bars(    one, none, r) {
    one = get("stream", "one", "unet")
    none = get("stream", "none", "unet")
    bar("stream batch of 2 / 2 UNet steps", one ? get("stream", "batch2", "unet") / (2 * one) : 0, 0.9, one)
    bar("stream batch of 4 / 4 UNet steps", one ? get("stream", "batch4", "unet") / (4 * one) : 0, 0.9, one)
    bar("cfg_type self / none", none ? get("stream", "self", "unet") / none : 0, 1.02, none)
    for (r = 2; r <= changes; r++)
        bar("change of " change[r] ", ms", get("stream", "change", change[r]), 1, get("stream", "change", change[r]))
    bar("LoRA weighed anew, ms", get("lora", "sd15", "again"), 300, get("lora", "sd15", "again"))
}

function say(text) { summary = summary (summary ? ", " : "") text }

# value must be at most limit or, when sign is ">=", at least.
function bar(label, value, limit, known, sign,    good) {
    total++
    if (!known) {
        unknown++
        printf "  %-58s    not measured\n", label
        return
    }
    sign = sign ? sign : "<="
    good = sign == "<=" ? value <= limit : value >= limit
    missed += !good
    printf "  %-58s %8.3f %s %-6g %s\n", label, value, sign, limit, (good ? "ok" : "MISSED")
    say(sprintf("%s %.2f", label, value))
}

function size_bars(s,    known) {
    known = best(s, "unet") && get("ours", s, "unet")
    bar("UNet step / faster peer, " s, known ? get("ours", s, "unet") / best(s, "unet") : 0, 0.8, known)
    known = best(s, "frame") && get("ours", s, "frame")
    bar("frame / faster peer, " s, known ? get("ours", s, "frame") / best(s, "frame") : 0, 0.85, known)
    known = get("floor", s, "unet") && get("ours", s, "unet")
    bar("UNet step / bare oneDNN, " s, known ? get("ours", s, "unet") / get("floor", s, "unet") : 0, 1.15, known)
}

function tiny_bars(    frame, first) {
    frame = get("ours", "tiny", "frame")
    first = get("ours", "tiny", "first")
    bar("tiny fps", frame ? 1000 / frame : 0, 20, frame, ">=")
    say(sprintf("tiny frame %.1f ms (encode %.1f, UNet %.1f, decode %.1f)", frame, get("ours", "tiny", "encode"), \
                get("ours", "tiny", "unet"), get("ours", "tiny", "decode")))
    bar("tiny peak MiB", get("ours", "tiny", "peak"), 400, get("ours", "tiny", "peak"))
    bar("tiny first frame s", first / 1000, 0.5, first)
}

{
    if ($1 " " $2 " " $3 != key) {
        flush_group()
        key = $1 " " $2 " " $3
        n = 0
    }
    v[++n] = $4
}

END {
    flush_group()
    count = split(sizes, size, " ")
    rows = split("text encode unet decode frame load first peak", row, " ")
    split("text:text encode, ms;encode:image encode, ms;unet:UNet step, ms;decode:decode, ms;" \
          "frame:whole frame, ms;load:load, s;first:first frame, ms;peak:peak memory, MiB", names, ";")
    for (i = 1; i <= count; i++) table(size[i], sprintf("%-4s x %s", size[i], size[i]))
    table("tiny", "tiny, " tiny_size " x " tiny_size)
    if (count) {
        streams = split("one batch2 apart2 batch4 apart4 none self initialize full", stream, " ")
        changes = split("nothing strength seed guidance_scale prompt_weights t_index_list", change, " ")
        split("come again go", lora, " ")
        table("sdxl", "SDXL narrow, " sdxl_size)
        stream_table()
    }
    print "\nbars"
    for (i = 1; i <= count; i++) size_bars(size[i])
    if (count) {
        bar("peak memory 512, GiB", get("ours", 512, "peak") / 1024, 6, get("ours", 512, "peak"))
        bar("peak memory 512 with --memory low, GiB", get("low", 512, "peak") / 1024, 3.5, get("low", 512, "peak"))
        bar("load, warm, s", get("ours", size[count], "load") / 1000, 3, get("ours", size[count], "load"))
        bar("host beside the plugin, 512, ms", get("passthrough", 512, "host"), 1, get("passthrough", 512, "host"))
    }
    tiny_bars()
    if (count) stream_bars()
    printf "%s: %s: %s\n", (count ? "bench" : "bench-tiny"), summary, \
           (missed ? missed " BARS MISSED" : \
            unknown ? total - unknown " bars held, " unknown " not measured" : "all bars held")
    exit missed > 0
}
