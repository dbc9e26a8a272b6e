#!/bin/bash
# network.sh STATE: brings the test network up in the directory STATE, keeps it while anybody uses
# it, and takes it down. One of these runs per STATE; a second one leaves at once.
#
# A user holds a shared flock on STATE/use.lock. STATE/runs names processes (id, start time)
# for whose sake the network stays although nobody holds the lock: a "go test ./..." runs its
# packages one after another. STATE/status is "up ID" or "failed ID", ID this process; STATE/log tells more.
set -u
peers=$(cd "$(dirname "$0")" && pwd)
state=${1:?usage: network.sh STATE}
hosts=$(awk '$1 ~ /^10\./ {print $3}' "$peers/etc/hosts")
export TDB_NO_FSYNC=1 LC_ALL=C # throw-away databases

address() { awk -v h="$1" '$3 == h {print $1}' "$peers/etc/hosts"; }
password() { awk -v u="$1" '$1 == u {print $2}' "$peers/users"; }
on() { "$peers/on" -s "$state" "$@"; }
say() { printf '%(%T)T %s\n' -1 "$*"; }
die() { say "FAILED: $*"; exit 1; }
wait_for() { # wait_for SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done
}

# begin_host NAME starts the process that is the host. It dies with this script, whatever ends it,
# and takes everything in the host with it.
begin_host() {
  mkdir -p "$state/$1"
  setpriv --pdeathsig KILL -- unshare --net --mount --pid --uts --ipc --fork --mount-proc --kill-child=KILL \
    "$peers/host.sh" "$1" "$state" </dev/null >"$state/$1/log" 2>&1 &
  eval "unshare_$1=$!"
}

# join_switch NAME waits for the host and plugs it in.
join_switch() {
  local u=unshare_$1 pid
  wait_for 180 test -e "$state/$1/ready" || die "host $1: $(cat "$state/$1/log")"
  pid=$(pgrep -P "${!u}") || die "host $1 has no process"
  echo "$pid" >"$state/$1/pid"
  [ "$1" = switch ] && return
  local switch; switch=$(cat "$state/switch/pid")
  nsenter -t "$switch" -n ip link add "v-$1" type veth peer name eth0 netns "$pid" || die "veth of $1"
  nsenter -t "$switch" -n ip link set "v-$1" master br0 up
  on "$1" ip addr add "$(address "$1")/24" dev eth0
  on "$1" ip link set eth0 up
}

bring_up() {
  for h in switch $hosts; do join_switch "$h"; done
  say "hosts are up"
  on dc "$peers/dc.sh" "$peers" || die "domain controller"
  say "domain controller is up"
  local m members=()
  for m in fs nas; do
    on "$m" "$peers/member.sh" "$peers" "$m" &
    members+=($!)
  done
  for m in "${members[@]}"; do wait "$m" || die "file server"; done
  say "file servers are up"
  on dc /usr/bin/python3 "$peers/keytabs.py" "$state" agent:host,cifs fs\$:host,cifs nas\$:host,cifs backup nobody1 Administrator ||
    die "keytabs"
  for m in fs nas; do
    wait_for 180 on cl rpcclient "$m.fsrvp.test" -U "backup@FSRVP.TEST%$(password backup)" --use-kerberos=required -c srvinfo ||
      die "$m does not answer over SMB with Kerberos"
  done
  wait_for 180 on cl rpcclient fs.fsrvp.test -U "backup@FSRVP.TEST%$(password backup)" --use-kerberos=required -c fss_get_sup_version ||
    die "rpcd_fsrvp does not answer"
  say "the network is up"
}

take_down() {
  local h pid
  for h in fs nas dc; do # let them close their databases and file systems
    on $h sh -c 'for f in smbd winbindd samba samba-dcerpcd; do
      p=$(cat /run/samba/$f.pid 2>/dev/null) && kill -TERM $p; done
      for i in $(seq 40); do pgrep "^(smbd|winbindd|samba)" >/dev/null || break; sleep 0.05; done' 2>/dev/null &
  done
  wait %% 2>/dev/null
  for h in $hosts switch; do pid=$(cat "$state/$h/pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null; done
  for h in $hosts switch; do local u=unshare_$h; wait "${!u:-}" 2>/dev/null; done
}

# still_running tells whether a process of STATE/runs lives.
still_running() {
  local pid start stat
  [ -e "$state/runs" ] || return 1
  while read -r pid start; do
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
    set -- ${stat##*) }                     # from field 3, the state, on
    [ "${20}" = "$start" ] && return 0      # field 22, the start time
  done <"$state/runs"
  return 1
}

cd "$state" || exit 1
exec 8>supervisor.lock 9<>use.lock
flock -n 8 || exit 0
trap 'exit 143' TERM INT HUP
trap 'take_down 8>&- 9>&-
      flock 9 # a new user waits until all is gone
      find "$state" -mindepth 1 -maxdepth 1 ! -name use.lock -exec rm -rf {} +
      rm -f use.lock; rmdir "$state" 2>/dev/null' EXIT
find "$state" -mindepth 1 -maxdepth 1 ! -name \*.lock ! -name runs -exec rm -rf {} +
exec >log 2>&1

for h in switch $hosts; do begin_host "$h" 8>&- 9>&-; done
if (bring_up) 8>&- 9>&-; then status=up; else status=failed; fi
echo "$status $$" >status.new && mv status.new status
while :; do
  flock 9
  still_running || exit 0
  flock -u 9
  sleep 0.2
done
