#!/usr/bin/env bash
# Builds the fuzz targets in this directory with clang's libFuzzer and the address and
# undefined behaviour sanitizers, and runs each for some seconds.
#
#   test/fuzz/fuzz.sh [SECONDS [TARGET...]]        (default: 10 seconds, all targets)
#
# An input that breaks an invariant is written to build/fuzz and named in the output.
# Needs Debian or Ubuntu, or a clang with libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
targets=("${@:2}")
if [ ${#targets[@]} -eq 0 ]; then
    targets=(test/fuzz/*_fuzz.cpp)
fi
flags=(-std=c++17 -g -O1 -Wall -Wextra -Werror -Isrc -Itest/fuzz
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)

has_libfuzzer() {
    echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long) { return 0; }' |
        clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null
}

if ! has_libfuzzer; then
    additional_packages="clang libclang-rt-dev"
    . scripts/prepare.sh
fi

mkdir -p build/fuzz
objects=()
for source in src/core/*.cpp; do
    objects+=("build/fuzz/$(basename "$source" .cpp).o")
    clang++ "${flags[@]}" -c "$source" -o "${objects[-1]}"
done

status=0
for target in "${targets[@]}"; do
    name=$(basename "$target" _fuzz.cpp)
    directory=build/fuzz/$name
    mkdir -p "$directory/corpus"
    clang++ "${flags[@]}" "test/fuzz/${name}_fuzz.cpp" "${objects[@]}" -o "$directory/fuzz"
    if "$directory/fuzz" -max_total_time="$seconds" -artifact_prefix="$directory/" \
        "$directory/corpus" >"$directory/log" 2>&1; then
        echo "$name: $(tail -n 1 "$directory/log")"
    else
        status=1
        echo "$name: FAILED"
        tail -n 40 "$directory/log"
    fi
done
exit "$status"
