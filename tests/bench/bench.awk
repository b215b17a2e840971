# bench.awk - lines of "engine size what figure", sorted, to one table, its bars and one summary line.

function flush_group() { if (n) median[key] = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }

function get(engine, size, what) { return (engine " " size " " what) in median ? median[engine " " size " " what] : 0 }

function cell(x, scale) { return x ? sprintf("%10.1f", x * scale) : "         -" }

# The faster peer.
function best(size, what,    a, b) {
    a = get("torch", size, what)
    b = get("onnx", size, what)
    return a && b ? (a < b ? a : b) : a + b
}

function bar(label, value, limit, known) {
    total++
    if (!known) {
        unknown++
        printf "  %-58s    not measured\n", label
        return
    }
    if (value > limit) missed++
    printf "  %-58s %8.3f <= %-6g %s\n", label, value, limit, (value > limit ? "MISSED" : "ok")
    summary = summary sprintf("%s%s %.2f", summary ? ", " : "", label, value)
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
    rows = split("text encode unet decode frame load peak", row, " ")
    split("text:text encode, ms;encode:image encode, ms;unet:UNet step, ms;decode:decode, ms;" \
          "frame:whole frame, ms;load:load, s;peak:peak memory, MiB", names, ";")
    for (i = 1; i <= count; i++) {
        s = size[i]
        printf "\n%-4s x %-12s %10s %10s %10s %10s %10s %10s\n", s, s, "ours", "low mem.", "PyTorch", \
               "ONNX RT", "oneDNN", "ours/peer"
        for (r = 1; r <= rows; r++) {
            w = row[r]
            scale = w == "load" ? 0.001 : 1
            peer = best(s, w)
            printf "%-19s %s %s %s %s %s %s\n", substr(names[r], index(names[r], ":") + 1), \
                   cell(get("ours", s, w), scale), cell(get("low", s, w), scale), \
                   cell(get("torch", s, w), scale), cell(get("onnx", s, w), scale), \
                   cell(get("floor", s, w), scale), \
                   (peer && get("ours", s, w) ? sprintf("%10.2f", get("ours", s, w) / peer) : "         -")
        }
    }
    print "\nbars"
    for (i = 1; i <= count; i++) {
        s = size[i]
        known = best(s, "unet") && get("ours", s, "unet")
        bar("UNet step / faster peer, " s, known ? get("ours", s, "unet") / best(s, "unet") : 0, 0.8, known)
        known = best(s, "frame") && get("ours", s, "frame")
        bar("frame / faster peer, " s, known ? get("ours", s, "frame") / best(s, "frame") : 0, 0.85, known)
        known = get("floor", s, "unet") && get("ours", s, "unet")
        bar("UNet step / bare oneDNN, " s, known ? get("ours", s, "unet") / get("floor", s, "unet") : 0, 1.15, known)
    }
    bar("peak memory 512, GiB", get("ours", 512, "peak") / 1024, 6, get("ours", 512, "peak"))
    bar("peak memory 512 with --memory low, GiB", get("low", 512, "peak") / 1024, 3.5, get("low", 512, "peak"))
    bar("load, warm, s", get("ours", size[count], "load") / 1000, 3, get("ours", size[count], "load"))
    bar("host beside the plugin, 512, ms", get("passthrough", 512, "host"), 1, get("passthrough", 512, "host"))
    printf "bench: %s: %s\n", summary, \
           (missed ? missed " BARS MISSED" : unknown ? total - unknown " bars held, " unknown " not measured" : "all bars held")
    exit missed > 0
}
