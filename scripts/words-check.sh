#!/usr/bin/env bash
# Checks comments, headings and names for words that a newcomer would not understand at first sight.
set -euo pipefail

usage() {
    cat <<'EOT'
Usage: scripts/words-check.sh

Fails and prints each place where
- a comment in Rust, in the console's JavaScript, in a script or in a YAML file, or a heading of a document,
  opens with a relative or indefinite pronoun (What, Who, Whose, Whoever, Whatever, How far, Where, Somebody,
  Nobody) instead of the name of a thing, or
- a type, function or module has one of the private names in scripts/words-denied.txt, which standard terms
  have replaced.

scripts/words-allowed.txt lists the exceptions. CONTRIBUTING.md says how we write.
EOT
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    '') ;;
    *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."

# files PATTERN...: the repository's own files with these names.
files() {
    local pattern names=()
    for pattern in "$@"; do names+=(-o -name "$pattern"); done
    find . -type d \( -name target -o -name node_modules -o -name .git \) -prune -o \
        -type f \( "${names[@]:1}" \) -printf '%P\n' | LC_ALL=C sort
}

# openings COMMENT FILE...: "path: text" of each comment block (or heading) that opens with a pronoun. COMMENT
# is a regular expression for the beginning of a comment line.
openings() {
    COMMENT=$1 awk '
        BEGIN { start = "^[ \t]*" ENVIRON["COMMENT"] }
        FNR == 1 { inside = 0 }
        {
            comment = $0 ~ start
            if (comment && !inside) {
                text = $0
                sub(start, "", text)
                if (text ~ /^[ \t]*(What|Who|Whose|Whoever|Whatever|How far|Where|Somebody|Nobody)([^A-Za-z]|$)/) {
                    sub(/^[ \t]+/, "", text)
                    print FILENAME ": " text
                }
            }
            inside = comment
        }' "${@:2}"
}

mapfile -t rust < <(files '*.rs')
mapfile -t scripts < <(files '*.js')
mapfile -t shell < <(files '*.sh' '*.py' '*.yml' '*.yaml' Dockerfile run)
mapfile -t documents < <(files '*.md')
found=$(
    openings '//[/!]?' "${rust[@]}"
    openings '(//|/?[*]+)' "${scripts[@]}"
    openings '#' "${shell[@]}"
    openings '#+ ' "${documents[@]}"
)
allowed=$(grep -v -e '^#' -e '^$' scripts/words-allowed.txt || true)
if [ -n "$allowed" ]; then found=$(printf '%s\n' "$found" | grep -vF -e "$allowed" || true); fi

denied=$(paste -sd'|' scripts/words-denied.txt)
names=$(grep -nE "\b(struct|enum|trait|type|fn|mod|function|class) ($denied)\b" "${rust[@]}" "${scripts[@]}" || true)

failed=
if [ -n "$found" ]; then
    printf 'Comments and headings that open with a pronoun instead of the name of a thing:\n%s\n\n' "$found" >&2
    failed=1
fi
if [ -n "$names" ]; then
    printf 'Private names that standard terms have replaced:\n%s\n\n' "$names" >&2
    failed=1
fi
[ -z "$failed" ] || { printf 'words-check: see CONTRIBUTING.md, "How we write"\n' >&2; exit 1; }
