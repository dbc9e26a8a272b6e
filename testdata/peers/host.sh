#!/bin/bash
# host.sh NAME STATE: process 1 of a host, in net, mount, pid, uts and ipc namespaces of its own.
set -eu
peers=$(cd "$(dirname "$0")" && pwd)
name=$1 own=$2/$1
# The folder whose programs and /etc the host has in place of the machine's: what .ci/root makes.
of=FSRVP_PEERS_ROOT_${name^^}
case $name in
fs | nas | cl) root=${!of-${FSRVP_PEERS_ROOT-}} ;;
*) root=${!of-} ;;
esac
hostname "$name"
ip link set lo up

if [ "$name" = switch ]; then
  ip link add br0 type bridge forward_delay 0 mcast_snooping 0
  ip link set br0 up
else
  if [ -n "$root" ]; then
    for d in bin sbin lib; do
      [ "/$d" -ef "/usr/$d" ] || { echo "/$d is no link to /usr/$d on this machine: its hosts cannot have another root"; exit 1; }
    done
    [ -d "$root/usr/bin" ] || { echo "$root is not the root of a system"; exit 1; }
    mount --rbind "$root/usr" /usr
  fi
  echo "$root" >"$own/root.name"
  # That /etc with the network's files over it; Samba's default paths are the host's own.
  mkdir -p "$own/etc" "$own/etc.work"
  cp "$peers"/etc/* "$own/etc/"
  mount -t overlay -o "lowerdir=$root/etc,upperdir=$own/etc,workdir=$own/etc.work" overlay /etc
  for d in /etc/samba /var/lib/samba /var/cache/samba /var/log/samba /run/samba; do
    mkdir -p "$d" "$own/root$d"
    mount --bind "$own/root$d" "$d"
  done
  mkdir -p -m 700 /var/lib/samba/private
  case $name in
  fs | nas)
    cp "$peers/samba/member.conf" /etc/samba/
    cp "$peers/samba/$name.conf" /etc/samba/smb.conf
    truncate -s 512M "$own/btrfs.img"
    mkfs.btrfs -q "$own/btrfs.img"
    mount -t tmpfs -o mode=755 srv /srv
    mkdir /srv/btrfs
    mount -o loop "$own/btrfs.img" /srv/btrfs
    for s in share data; do
      btrfs -q subvolume create /srv/btrfs/$s
      chmod 1777 /srv/btrfs/$s
    done
    ;;
  cl | agent) cp "$peers/samba/client.conf" /etc/samba/smb.conf ;;
  esac
fi
if [ "$name" = nas ]; then # nobody may answer for the server that a test puts behind nas's smbd
  for d in /usr/libexec/samba /usr/lib/samba /usr/lib/*/samba /usr/libexec; do
    if [ -e "$d/rpcd_fsrvp" ]; then mount --bind /dev/null "$d/rpcd_fsrvp"; fi
  done
fi

touch "$own/ready"
set +e
while :; do sleep 3600 & wait $!; done # bash reaps what the daemons leave
