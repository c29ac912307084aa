#!/usr/bin/env bash
# Measures the test coverage.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/coverage.sh [FILTER]

Runs scripts/test.sh with instrumented binaries and prints the line coverage of each file and of the whole
workspace. Programs that the tests kill are counted too. Fails if the coverage is below 85 % (MINIMUM=85).
Writes target/coverage/lcov.info for other tools.

Requires llvm-profdata and llvm-cov from the toolchain (rustup component add llvm-tools), or from the
distribution's packages, which are installed if they are missing.
EOF
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. scripts/lib.sh

# The tools of the toolchain, or any that are new enough to read its profile format.
tools=$(echo "$(rustc --print sysroot)"/lib/rustlib/*/bin)
if [ -x "$tools/llvm-cov" ]; then
    COV=$tools/llvm-cov PROFDATA=$tools/llvm-profdata
else
    for version in 23 22 21 20 19; do
        ! command -v llvm-cov-$version >/dev/null || break
    done
    command -v llvm-cov-$version >/dev/null || apt_install llvm-19
    COV=llvm-cov-$version PROFDATA=llvm-profdata-$version
fi

REPORT=$PWD/target/coverage
rm -rf "$REPORT/profiles"
mkdir -p "$REPORT/profiles"
# Instruments only the crates of the workspace, so that dependencies are shared with other builds. The wrapper uses
# bash because dash drops variables such as CARGO_BIN_EXE_api-gateway.
printf '#!/usr/bin/env bash\nexec "$@" -C instrument-coverage -C llvm-args=-runtime-counter-relocation\n' >"$REPORT/rustc"
chmod +x "$REPORT/rustc"
export RUSTC_WORKSPACE_WRAPPER="$REPORT/rustc"
# %c updates the profile while the program runs, so that a killed program is counted. %m lets the runs of a
# program share one file.
export LLVM_PROFILE_FILE="$REPORT/profiles/%m%c.profraw"

failed=
scripts/test.sh "$@" || failed=1

"$PROFDATA" merge --sparse "$REPORT"/profiles/*.profraw -o "$REPORT/all.profdata"
objects=$(cargo test --quiet --workspace --tests --bins --no-run --message-format=json |
    grep -o '"executable":"[^"]*"' | cut -d'"' -f4 | sed 's/^/--object /')
# Excludes dependencies and test code.
ignore='(/registry/|/rustc/|/tests/|/benches/|/examples/|/target/)'
# shellcheck disable=SC2086
set -- $objects
shift
"$COV" report "$@" --instr-profile "$REPORT/all.profdata" --ignore-filename-regex "$ignore" \
    --show-region-summary=false --show-branch-summary=false 2>/dev/null | sed "s|$PWD/||" >"$REPORT/report.txt"
"$COV" export "$@" --instr-profile "$REPORT/all.profdata" --ignore-filename-regex "$ignore" \
    --format lcov >"$REPORT/lcov.info" 2>/dev/null
cat "$REPORT/report.txt"
total=$(awk '$1 == "TOTAL" { sub("%", "", $NF); print $NF }' "$REPORT/report.txt")
say "files with less than 85 % coverage:"
awk '$NF ~ /%$/ && $1 != "TOTAL" { percent = $NF; sub("%", "", percent); if (percent + 0 < 85) print "  " $1 ": " $NF " of " $(NF - 2) " lines" }' \
    "$REPORT/report.txt"
say "line coverage: $total %"
[ -z "$failed" ] || die "tests failed"
awk -v total="$total" -v minimum="${MINIMUM:-85}" 'BEGIN { exit !(total >= minimum) }' ||
    die "line coverage is below ${MINIMUM:-85} %"
