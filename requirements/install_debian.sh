#!/usr/bin/env bash
# Install the Debian packages that a file lists, one a line: requirements/install_debian.sh FILE
# Asks dpkg first: where all are there, nothing is fetched and nobody need be root.
set -euo pipefail
mapfile -t packages <"$1"

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "Debian packages are missing; as root: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing Debian packages: ${missing[*]}"
log=build/stamps/apt-$(basename "$1" .txt).log
mkdir -p build/stamps
{
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
} >"$log" || {
  tail -n 20 "$log" >&2
  exit 1
}
