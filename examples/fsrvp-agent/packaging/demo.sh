#!/bin/sh
# The demonstration of Containerfile: "backup" does the whole job once, "agent" is an agent over TCP.
set -eu
dir=${FSRVP_DEMO:-/var/lib/fsrvp/demo}
mkdir -p "$dir/data"
[ -e "$dir/data/hello" ] || echo "hello from $(hostname)" >"$dir/data/hello"
case ${1:-backup} in
backup)
	fsrvp-backup -local "$dir/data" -out "$dir/demo.tar"
	fsrvp-backup -verify "$dir/demo.tar"
	tar -tvf "$dir/demo.tar"
	;;
agent)
	# NT hash of "secret"
	printf 'TEST\\backup\t878d8014606cda29677a44efa1353fc7\n' >"$dir/users"
	chmod 600 "$dir/users"
	cat >"$dir/agent.conf" <<END
listen = tcp:0.0.0.0:5555
share = data=$dir/data
expose = directory:$dir/exposed
snapshots = copy
snapshot-dir = $dir/snapshots
state = $dir/state
ntlm-users = $dir/users
allow = TEST\\backup
metrics = 0.0.0.0:9464
END
	exec fsrvp-agent -config "$dir/agent.conf"
	;;
*)
	echo "usage: fsrvp-demo [backup|agent]" >&2
	exit 2
	;;
esac
