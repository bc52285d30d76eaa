#!/bin/sh
# install_packages.sh PACKAGE...: installs those of the Debian packages that are missing, as root or
# through sudo. Does nothing, and needs no rights, when all are there.
set -eu

missing=
for package in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "braid: no apt-get here; install what corresponds to:$missing" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "braid: neither root nor sudo; run as root: apt-get install$missing" >&2
  exit 1
fi

echo "braid: installing$missing" >&2
# dict-gcide only carries data here, so its recommended dictionary server stays out.
$as_root apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
