#!/bin/bash
# reset.sh [SEQUENCE-TIMEOUT]: makes a file server forget everything of FSRVP: shares that smb.conf has not got, snapshots, files,
# ACEs and the state of rpcd_fsrvp, whose Message Sequence Timer is SEQUENCE-TIMEOUT seconds from now on (180, the standard's, without); runs in fs or nas.
set -u
grep -q '^srv /srv tmpfs ' /proc/mounts || { echo "reset.sh: this is no host of the test network" >&2; exit 1; }
shopt -s nullglob dotglob
end() { # end PID...: ends processes and waits for it
  local p
  for p in "$@"; do kill -TERM "$p" 2>/dev/null; done
  for i in $(seq 20); do
    local left=()
    for p in "$@"; do kill -0 "$p" 2>/dev/null && left+=("$p"); done
    [ ${#left[@]} = 0 ] && return
    sleep 0.05
  done
  kill -KILL "${left[@]}" 2>/dev/null
}

for s in $(net conf listshares); do # whether they expose copies or a test has added them
  net conf delshare "$s" 2>/dev/null
  smbcontrol smbd close-share "$s"
done
end $(cat /run/samba/samba-dcerpcd.pid 2>/dev/null) $(pgrep -x rpcd_fsrvp) # both start again on demand
rm -f /run/samba/srv_fss.tdb

# Whatever there is beside the two shares, subvolumes of subvolumes first.
awk '$2 ~ "^/srv/btrfs/" {print $2}' /proc/mounts | tac | xargs -r umount
btrfs subvolume list /srv/btrfs | sed 's/.* path //' | tac | while IFS= read -r v; do
  case $v in share | data) ;; *)
    btrfs property set -ts "/srv/btrfs/$v" ro false
    btrfs -q subvolume delete "/srv/btrfs/$v" ;;
  esac
done
for d in /srv/btrfs/*; do
  case $d in */share | */data) find "$d" -mindepth 1 -delete ;; *) rm -rf "$d" ;; esac
done
for d in /srv/*; do [ "$d" = /srv/btrfs ] || rm -rf "$d"; done
for s in fsrvp_share data; do sharesec $s -R S-1-1-0:ALLOWED/0x0/FULL >/dev/null; done
net conf delparm global 'fss:sequence timeout' 2>/dev/null
[ $# = 0 ] || net conf setparm global 'fss:sequence timeout' "$1"
