#!/bin/bash
# dc.sh PEERS: makes the domain FSRVP.TEST and starts its controller; runs in dc.
set -eu
peers=$1
export TDB_NO_FSYNC=1 LC_ALL=C
password() { awk -v u="$1" '$1 == u {print $2}' "$peers/users"; }
wait_for() { local end=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done; }

samba-tool domain provision --server-role=dc --realm=FSRVP.TEST --domain=FSRVP --host-name=dc --host-ip=10.99.0.1 \
  --adminpass="$(password Administrator)" --dns-backend=SAMBA_INTERNAL \
  --option='interfaces = lo eth0' --option='bind interfaces only = yes' \
  --option='server services = s3fs, rpc, ldap, cldap, kdc, winbindd, dns' \
  --option='disable netbios = yes' --option='load printers = no' --option='disable spoolss = yes' >/var/log/samba/provision 2>&1 ||
  { cat /var/log/samba/provision; exit 1; }
/usr/bin/python3 "$peers/users.py" "$peers/users"
samba -D
for port in 53 88 135 389 445; do
  wait_for 180 bash -c "exec 3<>/dev/tcp/10.99.0.1/$port" || { echo "port $port is closed"; exit 1; }
done
wait_for 180 bash -c 'kinit -c MEMORY: Administrator <<<"$0"' "$(password Administrator)" || { echo "kinit fails"; exit 1; }
