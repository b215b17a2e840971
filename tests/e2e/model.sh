#!/bin/bash
# `scope model`: what files are told to be, and downloads from a server on this machine: whole
# folders and single files, resumed, verified, with a token; then a frame from what was downloaded.
. "$SRC/tests/e2e/lib.sh"
export XDG_DATA_HOME=$PWD/data
unset HF_TOKEN SCOPE_HUB
golden=$SRC/tests/golden/networks
scope() { "$SCOPE" "$@"; }

# ---- inspect
run 0 scope model inspect "$golden/ldm1/model.safetensors"
says out "Stable Diffusion 1.x" epsilon unet text_encoder vae F8_E5M2 "can be used by streamdiffusion"
run 1 scope model inspect "$golden/ldm2/model.safetensors"
says out "Stable Diffusion 2.x" "vae             missing; scope model get" "cannot be used as it is"
run 0 scope model inspect --json "$golden/sd1"
jq -e '.usable and .kind == "folder" and .family == "Stable Diffusion 1.x" and .missing == [] and
    ([.parts[].part] == ["unet", "text_encoder", "vae", "taesd", "tokenizer"]) and
    all(.parts[0:4][]; .tensors > 0 and .parameters > 0 and .bytes > 0)' out >/dev/null ||
    fail "--json: $(cat out)"
run 0 scope model inspect "$golden/sdxl"
says out SDXL text_encoder_2 tokenizer_2 "can be used by streamdiffusion"
cp "$golden/ldm1/model.safetensors" alone.safetensors
run 1 scope model inspect alone.safetensors
says out "tokenizer       missing; scope model get clip-tokenizer"
run 1 scope model inspect "$golden/sd1/vae/diffusion_pytorch_model.safetensors"
says out "an autoencoder alone" "give it as vae_path"
head -c 100000 alone.safetensors >short.safetensors
run 1 scope model inspect short.safetensors
says out "it is truncated"
complains 2 "There is no file or folder" scope model inspect nothing.safetensors
complains 2 "there is no plugin" scope model inspect --plugin nobody alone.safetensors
complains 2 "say what to do" scope model

# ---- a server
mkdir -p hub/owner hub/private hub/openai
cp -r "$golden/sd1" hub/owner/sd1
cp -r "$golden/sd1" hub/private/model
mkdir -p hub/owner/sd1/safety_checker hub/owner/files hub/openai/clip-vit-large-patch14
cp hub/owner/sd1/unet/config.json hub/owner/sd1/safety_checker/
cp hub/owner/sd1/unet/diffusion_pytorch_model{,.fp16}.safetensors
cp hub/owner/sd1/unet/diffusion_pytorch_model{,.non_ema}.safetensors
for name in whole cut flip plain; do cp alone.safetensors hub/owner/files/a.$name.safetensors; done
cp "$golden"/ldm1/tokenizer/{vocab.json,merges.txt} hub/openai/clip-vit-large-patch14/
"$BUILD/tests/tools/hub_server" hub port >server.out 2>&1 &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do [ -s port ] && break; sleep 0.1; done
export SCOPE_HUB=http://127.0.0.1:$(cat port)/
models=$XDG_DATA_HOME/scope/models

# ---- whole folders
run 0 scope model get owner/sd1
[ "$(cat out)" = "$models/owner/sd1" ] || fail "the path is not told: $(cat out)"
says err "unet/diffusion_pytorch_model.safetensors  done, verified" "model_index.json  done, verified"
(cd "$models/owner/sd1" && find . -type f) | sort >is
(cd "$golden/sd1" && find . -type f) | grep -v golden | sort >want
diff want is || fail "not what a folder needs"
diff -r --exclude=golden.safetensors "$golden/sd1" "$models/owner/sd1" || fail "not the same"
run 0 scope model get owner/sd1
says err "unet/diffusion_pytorch_model.safetensors  is there already"
run 0 scope model get --variant fp16 --to half owner/sd1
[ -s half/unet/diffusion_pytorch_model.fp16.safetensors ] || fail "no fp16 variant"
[ ! -e half/unet/diffusion_pytorch_model.safetensors ] || fail "both variants"
[ -s half/vae/diffusion_pytorch_model.safetensors ] || fail "no vae where it has no such variant"

# ---- one file; a connection that breaks; going on
run 0 scope model get owner/files:a.whole.safetensors
cmp alone.safetensors "$models/owner/files/a.whole.safetensors" || fail "another file"
complains 1 "goes on where it stopped" scope model get owner/files:a.cut.safetensors 2>/dev/null
[ -s "$models/owner/files/a.cut.safetensors.part" ] || fail "nothing is left to go on with"
[ ! -e "$models/owner/files/a.cut.safetensors" ] || fail "half a file has the name of a whole one"
run 0 scope model get owner/files:a.cut.safetensors
cmp alone.safetensors "$models/owner/files/a.cut.safetensors" || fail "resumed into another file"
[ ! -e "$models/owner/files/a.cut.safetensors.part" ] || fail "the part is left"
tail -n 1 port.log | grep -q "a.cut.*Range: bytes=[1-9]" || fail "not resumed: $(tail -n 2 port.log)"
head -c 5000 alone.safetensors >"$models/owner/files/a.plain.safetensors.part"
run 0 scope model get owner/files:a.plain.safetensors # the server knows no ranges
cmp alone.safetensors "$models/owner/files/a.plain.safetensors" || fail "begun again into another file"
rm "$models/owner/files/a.plain.safetensors"
head -c 5000 /dev/zero >"$models/owner/files/a.whole.safetensors.part" # of another version
rm "$models/owner/files/a.whole.safetensors"
run 0 scope model get owner/files:a.whole.safetensors
cmp alone.safetensors "$models/owner/files/a.whole.safetensors" || fail "a wrong start was kept"

# ---- damage on the way: what was there stays
echo good >"$models/owner/files/a.flip.safetensors"
run 1 scope model get owner/files:a.flip.safetensors
says err "arrived damaged" SHA-256
[ "$(cat "$models/owner/files/a.flip.safetensors")" = good ] || fail "a good file is gone"
[ ! -e "$models/owner/files/a.flip.safetensors.part" ] || fail "a bad part is kept"

# ---- tokens and refusals
complains 1 "set HF_TOKEN" scope model get private/model
complains 1 "does not admit HF_TOKEN" env HF_TOKEN=bad "$SCOPE" model get private/model
run 0 env HF_TOKEN=good "$SCOPE" model get private/model
complains 1 "(404)" scope model get owner/nothing
complains 1 "holds no file b.safetensors" scope model get owner/files:b.safetensors
complains 1 "name one file, owner/files:FILE: " scope model get owner/files
complains 2 "is no name of a model" scope model get ../../etc
complains 2 "is no name of a model" scope model get sd1
complains 1 "http://127.0.0.1:1/" scope model get --hub http://127.0.0.1:1 owner/sd1
if [ "$(id -u)" != 0 ]; then
    mkdir -m 500 locked
    complains 1 "cannot be made" scope model get --to locked/deep owner/sd1
fi
if [ -w /dev/full ]; then # a disk without room
    mkdir -p full && ln -s /dev/full full/a.whole.safetensors.part
    complains 1 "disk is full" scope model get --to full owner/files:a.whole.safetensors
fi

# ---- what was downloaded makes frames, by its name
frame() { # FLAG...
    run 0 scope run --quiet --plugin streamdiffusion --input-mode text --size 64x64 --frames 1 --overwrite "$@" -o frame.png
    [ -s frame.png ] || fail "no frame"
}
frame --model owner/sd1
complains 1 "scope model get clip-tokenizer" scope run --quiet --plugin streamdiffusion \
    --model owner/files:a.whole.safetensors --input-mode text --size 64x64 --frames 1 -o no.png
run 0 scope model get clip-tokenizer
frame --model owner/files:a.whole.safetensors --use-taesd false
cp frame.png baked.png
frame --model owner/files:a.whole.safetensors --use-taesd false --prediction v
! cmp -s frame.png baked.png || fail "--prediction has no effect"
frame --model "$golden/ldm2/model.safetensors" --vae-path owner/files:a.whole.safetensors
complains 1 "not of one checkpoint" scope run --quiet --plugin streamdiffusion --frames 1 -o no.png \
    --input-mode text --model owner/files:a.whole.safetensors --unet-path "$golden/sd1/unet"
