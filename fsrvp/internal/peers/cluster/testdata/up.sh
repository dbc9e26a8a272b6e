#!/bin/bash
# up.sh DIR NODES: brings up a CTDB cluster in the network and mount namespaces of the caller, one that has
# nothing in them. Prints "up" when all nodes are healthy, and ends then; the nodes stay until they are killed, by DIR/n*/pid.
set -eu
dir=$1 nodes=$2
net=10.98.0

truncate -s 600M "$dir/image"
mkfs.btrfs -q "$dir/image"
mkdir -p "$dir/shared"
mount -o loop "$dir/image" "$dir/shared"
chmod 0755 "$dir/shared"
mkdir -m 0700 "$dir/shared/ctdb" "$dir/shared/fsrvp"
btrfs -q subvolume create "$dir/shared/vms"

ip link add br0 type bridge
ip addr add $net.254/24 dev br0
ip link set br0 up
ip link set lo up

node() {
	local i=$1 n=$dir/n$1
	mkdir -p "$n"/{etc-ctdb,etc-samba,lib-ctdb,run-ctdb,run-samba,lib-samba,cache-samba,log-samba,log-ctdb,state}
	chmod 0700 "$n/state"
	mkdir -p "$n"/lib-samba/private "$n"/lib-ctdb/{volatile,persistent,state,scripts}
	cp -a /etc/ctdb/. "$n/etc-ctdb/"
	: > "$n/etc-ctdb/public_addresses"
	for k in $(seq 1 "$nodes"); do echo $net."$k"; done > "$n/etc-ctdb/nodes"
	cat > "$n/etc-ctdb/ctdb.conf" <<CONF
[logging]
	location = file:/var/log/ctdb/log.ctdb
	log level = NOTICE
[cluster]
	node address = $net.$i
	cluster lock = $dir/shared/ctdb/.cluster.lock
	leader timeout = 2
[legacy]
	realtime scheduling = false
CONF
	printf '%s\n' RerecoveryTimeout=1 ElectionTimeout=1 MonitorInterval=1 RecoverInterval=1 TakeoverTimeout=5 \
		KeepaliveInterval=1 KeepaliveLimit=3 > "$n/etc-ctdb/ctdb.tunables"
	cat > "$n/etc-samba/smb.conf" <<CONF
[global]
	workgroup = FSRVP
	server role = standalone server
	netbios name = CLUST
	clustering = yes
	include = registry
	registry shares = yes
	log file = /var/log/samba/log.%m
	security = user
	map to guest = never
	load printers = no
	printing = bsd
	disable spoolss = yes
	idmap config * : backend = tdb2
	idmap config * : range = 100000-200000
CONF
	cat > "$n/init.sh" <<INIT
set -e
hostname node$i
ip link set lo up
mkdir -p /run/ctdb /run/samba /var/log/ctdb
for at in etc-ctdb:/etc/ctdb etc-samba:/etc/samba lib-ctdb:/var/lib/ctdb run-ctdb:/run/ctdb run-samba:/run/samba \
	lib-samba:/var/lib/samba cache-samba:/var/cache/samba log-samba:/var/log/samba log-ctdb:/var/log/ctdb; do
	mount --bind $n/\${at%%:*} \${at#*:}
done
touch $n/ready
exec sleep infinity
INIT
	rm -f "$n/ready"
	setsid unshare -n -m -p -u -i --fork --kill-child --mount-proc --propagation slave bash "$n/init.sh" < /dev/null > "$n/init.log" 2>&1 &
	local outer=$!
	for _ in $(seq 200); do [[ -e $n/ready ]] && break; sleep 0.05; done
	pgrep -P $outer > "$n/pid"
	ip link add "v$i" type veth peer name eth0 netns "$(cat "$n/pid")"
	ip link set "v$i" master br0 up
	on "$i" ip addr add $net."$i"/24 dev eth0
	on "$i" ip link set eth0 up
}

on() { local n=$dir/n$1; shift; nsenter -t "$(cat "$n/pid")" -a "$@"; }

for i in $(seq 1 "$nodes"); do node "$i"; done
for i in $(seq 1 "$nodes"); do on "$i" ctdbd; done
for _ in $(seq 900); do
	healthy=0
	for i in $(seq 1 "$nodes"); do
		if on "$i" ctdb nodestatus > /dev/null 2>&1; then healthy=$((healthy + 1)); fi
	done
	if [[ $healthy == "$nodes" ]]; then echo up; exit 0; fi
	sleep 0.1
done
on 1 ctdb status
tail -n 20 "$dir"/n*/log-ctdb/log.ctdb
exit 1
