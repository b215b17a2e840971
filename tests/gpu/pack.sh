#!/bin/bash
# pack.sh FOLDER ARCHIVE - what `make gpu-pack` makes: the programs of FOLDER, stripped, what they load,
# and the Python packages that peer.py needs beside PyTorch and transformers.
set -euo pipefail
folder=$1 archive=$2
rm -rf "$folder/pack" && mkdir -p "$folder/pack"
cp -r "$folder/bin" "$folder/lib" "$folder/pack"
rm -f "$folder/pack/lib/"*.a "$folder/pack/lib/loaded"
strip "$folder/pack/bin/"* "$folder/pack/lib/"*
python3 -m pip download -q --no-deps --only-binary=:all: -d "$folder/pack/wheels" \
    diffusers==0.42.1 importlib_metadata 2>"$folder/pip.log" || echo "no wheels: peer.py will need diffusers there"
tar -C "$folder/pack" -c . | xz -T0 -6 >"$archive"
rm -rf "$folder/pack"
ls -l "$archive"
