#!/bin/bash
# member.sh PEERS NAME: joins the domain and starts the file server; runs in the host NAME.
set -eu
peers=$1 name=$2
export TDB_NO_FSYNC=1 LC_ALL=C
password() { awk -v u="$1" '$1 == u {print $2}' "$peers/users"; }
wait_for() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done; }
step() { "$@" >"/var/log/samba/step" 2>&1 || { echo "$name: $*:"; cat /var/log/samba/step; exit 1; }; }

step net ads join -U "Administrator%$(password Administrator)" --no-dns-updates
step winbindd -D
step wait_for 180 wbinfo --ping-dc
step wait_for 180 wbinfo -i 'FSRVP\backup'
step smbd -D
# Samba 4.17 opens this file as the caller; without it srvsvc has no share's security descriptor (smbtorture's share_sd crashes).
step wait_for 180 test -f /var/lib/samba/share_info.tdb
chmod 666 /var/lib/samba/share_info.tdb
for g in Administrators Users 'Backup Operators'; do step net sam createbuiltingroup "$g"; done
step net sam addmem 'BUILTIN\Backup Operators' 'FSRVP\backup'
