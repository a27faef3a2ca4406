#!/usr/bin/env bash
# What is given out: release.sh BINARY FOLDER. Packs the binary with what it is made of (CycloneDX), third-party notices, licences, manual page, completions,
# schemas and the Helm chart, and writes checksums. The same binary at the same commit gives the same archive, byte for byte.
#
# SIGN_KEY  a key of gpg: signs the checksums (SHA256SUMS.asc)     IMAGE  the name of an image: saved beside, for podman or docker to load
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1
folder=$2
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=anomalyd-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

[ "$("$binary" --version)" = "anomalyd $version" ] || { echo "release: $binary is not version $version" >&2; exit 1; }
grep -q "^## $version\b\|^## Unreleased" CHANGELOG.md || { echo "release: CHANGELOG.md says nothing of $version" >&2; exit 1; }

rm -rf "$folder"
stage=$folder/$name
mkdir -p "$stage"/{man,completions,schemas,deploy,docs}
strip -o "$stage/anomalyd" "$binary"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT config/default.toml "$stage/"
cp docs/*.schema.json docs/openapi.json docs/schemas/* "$stage/schemas/"
cp docs/*.md "$stage/docs/"
cp -rL deploy/prometheus deploy/grafana deploy/helm deploy/compose.yaml deploy/notify.toml "$stage/deploy/"
cargo run --locked --quiet -p anomalyd-supply -- "$stage"
"$binary" man >"$stage/man/anomalyd.1"
for shell in bash fish zsh; do "$binary" completions "$shell" >"$stage/completions/anomalyd.$shell"; done

tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" --mode='u+w,go-w,a+rX' -C "$folder" -cf - "$name" | gzip --no-name --best >"$folder/$name.tar.gz"
cp "$stage/anomalyd.cdx.json" "$folder/$name.cdx.json"
rm -rf "$stage"
if [ -n "${IMAGE:-}" ]; then
  if command -v podman >/dev/null; then podman save --quiet -o "$folder/$name.image.tar" "$IMAGE"; else docker save -o "$folder/$name.image.tar" "$IMAGE"; fi
  gzip --no-name --best "$folder/$name.image.tar"
fi
sums=$(cd "$folder" && sha256sum -- *)
printf '%s\n' "$sums" >"$folder/SHA256SUMS"
[ -z "${SIGN_KEY:-}" ] || gpg --batch --yes --local-user "$SIGN_KEY" --armor --detach-sign "$folder/SHA256SUMS"
ls -l "$folder"
