#!/usr/bin/env bash
# Builds the release twice, from two clean checkouts of this commit, and compares the bytes. The second build has
# another path, another home, another time zone, another umask and a build cache of its own, which is empty.
#   PLATFORMS="linux/amd64 darwin/arm64" deploy/reproduce.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
second=$work/a/much/longer/path/to/the/second/checkout
git clone -q "$root" "$work/one"
git clone -q "$root" "$second"
commit=$(git -C "$root" rev-parse HEAD)
version=${VERSION:-$(git -C "$root" describe --tags --always)}
git -C "$work/one" checkout -q "$commit"
git -C "$second" checkout -q "$commit"
modules=$(go env GOMODCACHE) # they are verified by their sums; what is built of them is not shared
VERSION=$version "$work/one/deploy/dist.sh" "$work/dist1"
(
	umask 077
	mkdir -p "$work/home"
	env HOME="$work/home" USER=nobody TZ=Asia/Tokyo GOMODCACHE="$modules" GOCACHE="$work/cache" VERSION="$version" "$second/deploy/dist.sh" "$work/dist2"
)
diff "$work/dist1/SHA256SUMS" "$work/dist2/SHA256SUMS" || { echo "the two builds differ" >&2; exit 1; }
cat "$work/dist1/SHA256SUMS"
echo "two builds of $commit, the same bytes"
