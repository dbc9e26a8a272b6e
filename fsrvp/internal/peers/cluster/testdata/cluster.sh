#!/bin/bash
# cluster.sh up DIR NODES     brings up a CTDB cluster in the network and mount namespaces of the caller, which have
#                             nothing in them. It ends when all nodes are healthy; they stay until they are killed, by
#                             DIR/n*/pid.
# cluster.sh solo DIR NODE    starts a machine that is no node, with a Samba alone.
# cluster.sh boot DIR NODE    starts a node again that was killed. It ends when the node is healthy.
set -eu
dir=$2
net=10.98.0

# configure NODE NODES writes what a node keeps.
configure() {
	local i=$1 n=$dir/n$1
	mkdir -p "$n"/{etc-ctdb,etc-samba,lib-ctdb,run-ctdb,run-samba,lib-samba,cache-samba,log-samba,log-ctdb,state}
	chmod 0700 "$n/state"
	mkdir -p "$n"/lib-samba/private "$n"/lib-ctdb/{volatile,persistent,state,scripts}
	cp -a /etc/ctdb/. "$n/etc-ctdb/"
	: > "$n/etc-ctdb/public_addresses"
	for k in $(seq 1 "$2"); do echo $net."$k"; done > "$n/etc-ctdb/nodes"
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
		KeepaliveInterval=1 KeepaliveLimit=3 RecoveryBanPeriod=3 > "$n/etc-ctdb/ctdb.tunables"
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
while :; do sleep infinity; done # and reap whoever has no parent
INIT
}

# power NODE starts a node, with nothing in it but its network.
power() {
	local i=$1 n=$dir/n$1
	rm -rf "$n/ready" "$n"/run-ctdb/* "$n"/run-samba/*
	setsid unshare -n -m -p -u -i --fork --kill-child --mount-proc --propagation slave bash "$n/init.sh" < /dev/null > "$n/init.log" 2>&1 &
	local outer=$!
	for _ in $(seq 1200); do [[ -e $n/ready ]] && break; sleep 0.05; done
	pgrep -P $outer > "$n/pid"
	for _ in $(seq 100); do # the last one goes with its namespace, some time after the last process
		ip link add "v$i" type veth peer name eth0 netns "$(cat "$n/pid")" 2> /dev/null && break
		ip link del "v$i" 2> /dev/null || sleep 0.1
	done
	ip link set "v$i" master br0 up
	on "$i" ip addr add $net."$i"/24 dev eth0
	on "$i" ip link set eth0 up
}

on() { local n=$dir/n$1; shift; nsenter -t "$(cat "$n/pid")" -a "$@"; }

# healthy NODE... waits until CTDB says so of all of them.
healthy() {
	for _ in $(seq 900); do
		local left=0
		for i; do
			on "$i" ctdb nodestatus > /dev/null 2>&1 || left=1
		done
		[[ $left == 0 ]] && return
		sleep 0.1
	done
	on "$1" ctdb status
	tail -n 20 "$dir"/n*/log-ctdb/log.ctdb
	exit 1
}

case $1 in
up)
	nodes=$3
	truncate -s 600M "$dir/image"
	mkfs.btrfs -q "$dir/image"
	mkdir -p "$dir/shared"
	mount -o loop "$dir/image" "$dir/shared"
	chmod 0755 "$dir/shared"
	mkdir -m 0700 "$dir/shared/ctdb" "$dir/shared/fsrvp"
	btrfs -q subvolume create "$dir/shared/vms"
	btrfs -q subvolume create "$dir/shared/other"
	ip link add br0 type bridge
	ip addr add $net.254/24 dev br0
	for k in 251 252 253; do ip addr add $net.$k/24 dev br0; done # of clients
	ip link set br0 up
	ip link set lo up
	for i in $(seq 1 "$nodes"); do
		configure "$i" "$nodes"
		power "$i"
	done
	for i in $(seq 1 "$nodes"); do on "$i" ctdbd; done
	healthy $(seq 1 "$nodes")
	;;
solo)
	configure "$3" 0
	sed -i -e /clustering/d -e s/CLUST/SOLO/ -e 's/tdb2/tdb/' "$dir/n$3/etc-samba/smb.conf"
	power "$3"
	;;
boot)
	power "$3"
	on "$3" ctdbd
	healthy "$3"
	on "$3" smbd -D
	;;
esac
