#!/bin/sh
# The files of the container image: files.sh BUILT CONTAINER_TOML ROOT (deploy/Dockerfile runs it on a Debian of the image's release).
#
# A root with the binary and what it needs of Debian, nothing else: no shell, no package manager. Which packages the libraries are
# from is in /var/lib/dpkg/status.d, where scanners of images look for it.
set -eu

built=$1
settings=$2
root=$3

mkdir -p "$root/usr/local/bin" "$root/usr/share/anomalyd" "$root/usr/share/doc/anomalyd" "$root/etc/anomalyd" "$root/etc/ssl/certs" \
  "$root/var/lib/dpkg/status.d" "$root/tmp"
install -m 755 "$built/anomalyd" "$root/usr/local/bin/anomalyd"
install -m 644 "$settings" "$root/usr/share/anomalyd/container.toml"
# Empty: the place to mount a configuration over.
: >"$root/etc/anomalyd/anomalyd.toml"
for file in "$built"/*; do
  [ "${file##*/}" = anomalyd ] || install -m 644 "$file" "$root/usr/share/doc/anomalyd/"
done

install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0:root:/:/sbin/nologin\nanomalyd:x:65532:65532:anomalyd:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nanomalyd:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"

# Libraries lie where the loader looks for them; which package each is from, by its resolved path.
packages=ca-certificates
ldd "$built/anomalyd" | awk '/not found/ { print "missing: " $0 >"/dev/stderr"; exit 1 } /=> \// { print $3; next } /^[[:space:]]*\// { print $1 }' >/tmp/libraries
while read -r library; do
  install -D -m 755 "$(readlink -f "$library")" "$root$library"
  package=$(dpkg-query --search "*$(readlink -f "$library" | sed 's,^/usr,,')" | sed -n '1s/:.*//p')
  [ -n "$package" ] || { echo "$library is of no package" >&2; exit 1; }
  packages="$packages $package"
done </tmp/libraries
for package in $packages; do
  dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/$package"
  install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done
install -m 644 /usr/lib/os-release "$root/etc/os-release"

# One time on all: the image's bytes do not depend on when it was built.
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
# That what was copied suffices.
chroot "$root" /usr/local/bin/anomalyd --version
