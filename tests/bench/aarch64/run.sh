#!/usr/bin/env bash
# usage: run.sh FOLDER [KERNELS]   The kernels' exactness on aarch64, by qemu-user: Debian's arm64 Python, the aarch64 wheels.
# Needs apt, dpkg and qemu-user; installs nothing outside FOLDER. Minutes: compiling is emulated too. Its speed means nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")/../../.." && pwd)
folder=$1 kernels=${2:-60}
command -v qemu-aarch64 >/dev/null || { echo "install qemu-user first" >&2; exit 1; }
mkdir -p "$folder"/{state/lists/partial,cache/archives/partial,debs,system,wheels}
folder=$(cd "$folder" && pwd)
if [ ! -e "$folder/system/usr/bin/python3.11" ]; then
  : > "$folder/state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" \
    > "$folder/sources.list"
  apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State=$folder/state
    -o Dir::State::status=$folder/state/status -o Dir::Cache=$folder/cache -o Dir::Etc::sourcelist=$folder/sources.list
    -o Dir::Etc::sourceparts=/nonexistent"
  $apt update
  (cd "$folder/debs" && $apt download libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 liblzma5 libbz2-1.0 \
    libuuid1 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib)
  for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/system"; done
fi
if [ ! -d "$folder/system/site/numba" ]; then
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 -d "$folder/wheels" numba llvmlite numpy
  for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/system/site"; done
fi
# Compiled anew: of code from a cache nothing can be inspected.
rm -rf "$folder/kernels"
cd "$here"
MESHD_CACHE_DIR="$folder/kernels" OMP_NUM_THREADS=1 PYTHONPATH="$folder/system/site:$here" \
  qemu-aarch64 -L "$folder/system" "$folder/system/usr/bin/python3.11" -m tests.bench.aarch64.check "$kernels"
