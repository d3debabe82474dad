#!/bin/sh
# Serve this machine's root read-only at a socket: share.sh EMPTY_DIRECTORY VIRTIOFSD SOCKET
# In a mount namespace of its own. What is mounted below the root (/proc, /sys) is not served.
set -eu
mount --bind / "$1"
mount -o remount,bind,ro "$1"
exec "$2" --socket-path="$3" -f --thread-pool-size=0 -o "source=$1,cache=always,sandbox=chroot"
