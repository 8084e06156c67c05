#!/usr/bin/env bash
# Builds what is released, into the directory $1: for each platform an archive with the binary, its manual pages and
# completions, and a bill of materials; Debian packages for Linux; SHA256SUMS over all of them. The same commit gives
# the same bytes, wherever and whenever it is built with the same Go: no time, no path, no user gets into them.
#   PLATFORMS="linux/amd64" VERSION=1.2.3 deploy/dist.sh dist
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}
cd "$root"
version=${VERSION:-$(git describe --tags --always)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH VERSION=$version
# Nothing of the machine's own taste.
export CGO_ENABLED=0 GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 GOWORK=off GOTOOLCHAIN=local

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go run -tags gendocs ./cmd/gmq "$work/docs"
gzip -9n "$work"/docs/man/*

# archive DIR FILE: names in order, the source's time, nobody's files.
archive() {
	tar -C "$1" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - . | gzip -9n >"$2"
}

# debian ARCH BINARY: a package, made by hand of what is there already.
debian() {
	local tree=$work/deb-$1 number
	mkdir -p "$tree"/{DEBIAN,etc/gmq,usr/bin,usr/lib/systemd/system,usr/lib/sysusers.d,usr/share/doc/gmq,usr/share/man/man1} \
		"$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
	install -m 755 "$2" "$tree/usr/bin/gmq"
	install -m 644 deploy/systemd/gmq.service "$tree/usr/lib/systemd/system/"
	install -m 644 deploy/systemd/gmq.sysusers "$tree/usr/lib/sysusers.d/gmq.conf"
	install -m 644 deploy/systemd/gmq.yaml "$tree/etc/gmq/"
	install -m 644 "$work"/docs/man/*.1.gz "$tree/usr/share/man/man1/"
	install -m 644 "$work/docs/completion/gmq.bash" "$tree/usr/share/bash-completion/completions/gmq"
	install -m 644 "$work/docs/completion/_gmq" "$tree/usr/share/zsh/vendor-completions/"
	install -m 644 "$work/docs/completion/gmq.fish" "$tree/usr/share/fish/vendor_completions.d/"
	install -m 644 LICENSE "$tree/usr/share/doc/gmq/copyright"
	install -m 644 deploy/debian/conffiles "$tree/DEBIAN/"
	install -m 755 deploy/debian/{postinst,prerm,postrm} "$tree/DEBIAN/"
	number=${version#v}
	[[ $number == [0-9]* ]] || number=0~$number # versions of Debian begin with a digit
	sed -e "s/@VERSION@/$number/" -e "s/@ARCH@/$1/" -e "s/@SIZE@/$(du -sk --apparent-size "$tree" | cut -f1)/" deploy/debian/control >"$tree/DEBIAN/control"
	(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum >DEBIAN/md5sums)
	find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$tree" "$out/gmq_${number}_$1.deb" >/dev/null
}

for platform in $platforms; do
	os=${platform%/*} arch=${platform#*/}
	name=gmq-$version-$os-$arch
	tree=$work/$name
	mkdir -p "$tree/$name"
	GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version" -o "$tree/$name/gmq" ./cmd/gmq
	cp -r "$work/docs/man" "$work/docs/completion" LICENSE README.md "$tree/$name/"
	cp deploy/systemd/gmq.service deploy/systemd/gmq.yaml "$tree/$name/"
	archive "$tree" "$out/$name.tar.gz"
	go run ./deploy/sbom "$tree/$name/gmq" "$version" >"$out/$name.cdx.json"
	if [ "$os" = linux ]; then
		if command -v dpkg-deb >/dev/null; then debian "$arch" "$tree/$name/gmq"; else echo "no Debian package: dpkg-deb is not installed" >&2; fi
	fi
done
(cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
