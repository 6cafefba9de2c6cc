#!/bin/busybox sh
# The guest's first process. Containers pivot away from the root, which an initramfs can't be left for, so
# it moves everything to a tmpfs first and goes on there. The report goes to a serial port of its own: the
# console carries the kernel's words.
/bin/busybox --install -s /bin
ln -sf /bin/busybox /sbin/modprobe
if [ ! -e /moved ]; then
  mount -t tmpfs -o size=90% root /new
  for name in bin sbin etc lib lib64 usr root tmp var run guest.sh image.tar data.img policy; do
    [ -e /$name ] || continue
    cp -a /$name /new/ && rm -rf "/${name:?}" 2>/dev/null
    PATH=/new/bin:/bin
  done
  cp -a /init /new/init
  mkdir -p /new/dev /new/proc /new/sys
  : >/new/moved
  exec /new/bin/busybox switch_root /new /init
fi
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ip link set lo up
depmod
# The kernel gives what it does not know to its first process: the port of the report.
sh /guest.sh >/dev/$report 2>&1
sync
poweroff -f
