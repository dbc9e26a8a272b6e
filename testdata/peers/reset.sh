#!/bin/bash
# reset.sh [SEQUENCE-TIMEOUT]: makes a file server forget everything of FSRVP: exposed shares, snapshots, test files, ACEs and
# the state of rpcd_fsrvp, whose Message Sequence Timer is SEQUENCE-TIMEOUT seconds from now on (180, the standard's, without); runs in fs or nas.
set -u
shopt -s nullglob
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

for s in $(net conf listshares); do
  case $s in *@*) net conf delshare "$s" 2>/dev/null; smbcontrol smbd close-share "$s" ;; esac
done
end $(cat /run/samba/samba-dcerpcd.pid 2>/dev/null) $(pgrep -x rpcd_fsrvp) # both start again on demand
rm -f /run/samba/srv_fss.tdb

for d in /srv/btrfs/*/@GMT-*; do btrfs -q subvolume delete "$d"; done
for d in /srv/btrfs/share /srv/btrfs/data; do find "$d" -mindepth 1 -delete; done
for s in fsrvp_share data; do sharesec $s -R S-1-1-0:ALLOWED/0x0/FULL >/dev/null; done
net conf delparm global 'fss:sequence timeout' 2>/dev/null
[ $# = 0 ] || net conf setparm global 'fss:sequence timeout' "$1"
