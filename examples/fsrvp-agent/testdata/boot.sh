#!/bin/bash
# boot.sh ROOT SCRATCH: starts the systemd of the Debian in ROOT, in name spaces of its own (mounts, processes, network, host name, IPC,
# cgroups). What it changes is in a file system in memory, and ROOT stays as it is. In SCRATCH, an empty directory, there have to be
# "debs", which is mounted at /root/debs, and "disk", an image that is mounted at /srv/nas. It prints "cgroup DIR" for each control group
# that has to be removed when it has ended, and then "boot".
set -euo pipefail
root=$1 scratch=$2

name=fsrvp-operator-$$
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
	if [[ -e $hierarchy/cgroup.procs ]]; then
		mkdir "$hierarchy/$name"
		echo "cgroup $hierarchy/$name"
		echo $$ >"$hierarchy/$name/cgroup.procs"
	fi
done

echo boot
exec unshare --cgroup --mount --pid --fork --uts --ipc --net --kill-child --propagation private bash -euo pipefail -c '
	root=$1 scratch=$2
	mkdir "$scratch/memory"
	mount -t tmpfs tmpfs "$scratch/memory"
	cd "$scratch/memory"
	mkdir changed work new
	mount -t overlay overlay -o "lowerdir=$root,upperdir=changed,workdir=work" new
	cd new
	mount -t proc proc proc
	mount --bind proc/sys proc/sys # of which much is the machine'"'"'s
	mount -o remount,ro,bind proc/sys
	mount -t sysfs -o ro sysfs sys
	if [[ -e /sys/fs/cgroup/cgroup.procs ]]; then
		mount -t cgroup2 cgroup sys/fs/cgroup
	else
		mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
		mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
		mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
		[[ ! -e /sys/fs/cgroup/unified ]] || mount -t cgroup2 cgroup sys/fs/cgroup/unified
	fi
	mount -t tmpfs -o mode=755 dev dev
	for d in null zero full random urandom tty; do
		touch "dev/$d"
		mount --bind "/dev/$d" "dev/$d"
	done
	mkdir dev/pts dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
	ln -s pts/ptmx dev/ptmx
	mount -t tmpfs shm dev/shm
	mount -t tmpfs -o mode=755 run run
	mount -t tmpfs tmp tmp
	mkdir -p root/debs srv/nas old
	mount --bind "$scratch/debs" root/debs
	mount -o loop "$scratch/disk" srv/nas
	# Nothing of these is for a machine without hardware, and nmbd waits for a network.
	for unit in nmbd systemd-sysctl systemd-modules-load systemd-udevd systemd-logind systemd-timesyncd apt-daily dpkg-db-backup e2scrub_reap; do
		ln -sf /dev/null "etc/systemd/system/$unit.service"
	done
	echo nas >etc/hostname
	hostname nas
	echo "127.0.0.1 localhost nas" >etc/hosts
	ip link set lo up
	pivot_root . old
	cd /
	umount -l old
	exec env -i container=fsrvp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		/lib/systemd/systemd --show-status=false
' boot "$root" "$scratch" </dev/null
