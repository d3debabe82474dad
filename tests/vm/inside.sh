#!/bin/bash
# The virtual machine's only program, once its root is there: run the command, say how it ended, power off.
# TREE and KERNEL_ROOT come from the kernel's command line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TIDEGATE_TEST_PATIENCE=10

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts
for directory in /dev/shm /tmp /run /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$directory"; done
mkdir -p /run/netns
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount --bind "$KERNEL_ROOT/lib/modules" /lib/modules
for module in tun veth sch_ingress cls_bpf wireguard nf_tables; do modprobe -q "$module"; done
hostname virtual
ip link set lo up

cd "$TREE" || exit
mapfile -d '' -t command </vm/command
"${command[@]}" </dev/null >/dev/hvc0 2>&1
echo "$?" >/dev/ttyS1
echo o >/proc/sysrq-trigger
sleep infinity
