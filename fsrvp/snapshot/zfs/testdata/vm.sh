#!/bin/bash
# vm.sh FOLDER: makes in FOLDER what TestVM boots: the kernel of Debian trixie (vmlinuz) and an initramfs with OpenZFS's module and
# programs (root.img). As root; it needs debootstrap, cpio, gzip and xz, Debian's packages, some 3 GB, and the time that OpenZFS
# takes to compile. What is there already stays.
#
# SUITE names another suite than trixie. Packages come from where this machine's come from, unless DEBIAN_MIRROR is set.
set -euo pipefail
folder=$(realpath -m -- "$1") suite=${SUITE:-trixie}
here=$(dirname "$(realpath "$0")")
[[ ! -e $folder/root.img || ! -e $folder/vmlinuz ]] || exit 0
mkdir -p "$folder"
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' | awk '$1 == "Debian/Debian" && !m {m = $2} END {print m}')}
[[ $mirror ]] || { echo "vm.sh: apt knows no mirror of Debian; set DEBIAN_MIRROR" >&2; exit 1; }
base=$folder/debian
script=/usr/share/debootstrap/scripts/$suite
[[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid # an older debootstrap

export DEBIAN_FRONTEND=noninteractive LC_ALL=C RUNLEVEL=1
[[ -e $base/.bootstrapped ]] || { rm -rf "$base"; debootstrap --variant=minbase --components=main,contrib "$suite" "$base" "$mirror" "$script"; touch "$base/.bootstrapped"; }
echo "deb $mirror $suite main contrib" >"$base/etc/apt/sources.list"
# What is mounted goes with the namespace.
base=$base unshare --mount --pid --fork --mount-proc --kill-child bash -euo pipefail -c '
	mount -t proc proc "$base/proc"
	mount --rbind /dev "$base/dev"
	chroot "$base" apt-get update -qq
	chroot "$base" apt-get install -y -qq --no-install-recommends linux-image-amd64 linux-headers-amd64 busybox-static kmod
	chroot "$base" apt-get install -y -qq --no-install-recommends zfs-dkms zfsutils-linux
' </dev/null

kernel=$(cd "$base/lib/modules" && find . -name 'zfs.ko*' | head -n 1 | cut -d / -f 2)
[[ $kernel ]] || { echo "vm.sh: zfs-dkms has built no module; see $base/var/lib/dkms" >&2; exit 1; }
root=$folder/root
rm -rf "$root"
mkdir -p "$root"/{bin,sbin,lib,lib64,proc,sys,dev,tmp,etc,usr/lib,usr/bin,usr/sbin,run,mnt,data,var/lib}
cp "$base/usr/bin/busybox" "$root/bin/busybox"
for name in sh ls cat echo mkdir poweroff grep date sleep ln mv rm touch insmod truncate uname; do ln -s busybox "$root/bin/$name"; done
for name in zfs zpool mount umount mount.zfs setpriv cp; do
	path=$(chroot "$base" sh -c "PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v $name")
	cp -L "$base$path" "$root/sbin/$name"
	chroot "$base" ldd "$path" | grep -o '/[^ ]*' | grep -v ':$' | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$base$library" "$root$library"
	done
done
for module in spl zfs; do
	path=$(find "$base/lib/modules/$kernel" -name "$module.ko*" | head -n 1)
	case $path in
	*.xz) xz -dc "$path" ;;
	*.zst) zstd -dc "$path" ;;
	*) cat "$path" ;;
	esac >"$root/lib/$module.ko"
done
printf 'root:x:0:0::/:/bin/sh\n' >"$root/etc/passwd"
cp "$here/vminit" "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$folder/root.img.new"
cp "$base/boot/vmlinuz-$kernel" "$folder/vmlinuz"
mv "$folder/root.img.new" "$folder/root.img"
