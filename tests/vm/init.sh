#!/bin/busybox sh
# First in the virtual machine: load what reaches the host's files, and go on there.
# The host's files are read-only, here and there; what is written stays in memory.
busybox=/bin/busybox
while read -r module; do $busybox insmod "/modules/$module"; done </modules/order
$busybox mount -t virtiofs -o ro host /host
$busybox mount -t tmpfs -o mode=755 kept /kept
$busybox mkdir /kept/upper /kept/work
$busybox mount -t overlay -o lowerdir=/host,upperdir=/kept/upper,workdir=/kept/work root /root
$busybox mkdir -p /root/vm
$busybox cp /command /root/vm/
exec $busybox switch_root /root /bin/bash "$TREE/tests/vm/inside.sh"
