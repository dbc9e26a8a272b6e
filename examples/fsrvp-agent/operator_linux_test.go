package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rootEnv names the root of a Debian with systemd, Samba, curl and OpenRC, as .ci/run has .ci/root
// make it.
const rootEnv = "FSRVP_OPERATOR_ROOT"

// packagesEnv names a directory with the packages of two versions, in the folders "old" and "new".
// Without it the test builds them.
const packagesEnv = "FSRVP_OPERATOR_DEBS"

// TestOperator does what README.md says, as a new operator would: it runs the manual's own commands
// on a fresh Debian with systemd and Samba, from the installation of the package to the recovery of
// a lost state, and looks at what each has done.
func TestOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	need(t, "unshare", "nsenter", "mkfs.btrfs", "dpkg-deb")
	root := os.Getenv(rootEnv)
	if root == "" || os.Geteuid() != 0 {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatalf("missing: root's rights, and %s, the root of a Debian", rootEnv)
		}
		t.Skipf("missing: root's rights, and %s, the root of a Debian with systemd, dbus, samba, samba-common-bin, smbclient, curl and openrc, as .ci/root makes it", rootEnv)
	}
	m := bootMachine(t, root, packagesOf(t))
	manual := manualBlocks(t)
	follow := func(block string) string {
		t.Helper()
		require.Contains(t, manual, block, "a block of the manual")
		out := m.shell(t, manual[block])
		delete(manual, block)
		return out
	}
	health := func() string { return m.shell(t, "curl --silent http://127.0.0.1:9464/healthz") }
	metric := func(name string) string {
		t.Helper()
		for _, line := range strings.Split(m.shell(t, "curl --silent http://127.0.0.1:9464/metrics"), "\n") {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				return v
			}
		}
		require.Fail(t, "no metric", name)
		return ""
	}
	exposed := func() string { return m.shell(t, "net conf listshares") }
	m.shell(t, "mkdir -p /srv/nas/data; echo 'hello from before' >/srv/nas/data/hello")
	m.shell(t, "cp /root/debs/old/*.deb /root/; mkdir -p /root/new; cp /root/debs/new/*.deb /root/new/")

	require.Contains(t, follow("install"), "fsrvp-agent 1.0.0")
	require.Contains(t, m.shell(t, "getent passwd fsrvp; systemctl is-enabled fsrvp-agent || true"), "/var/lib/fsrvp")
	follow("samba")
	follow("rival")
	follow("rights")
	out := follow("start")
	require.Contains(t, out, "/etc/fsrvp/agent.conf: no mistakes found")
	require.Contains(t, out, "Active: active (running)")
	require.Contains(t, out, `Status: "0 shadow copy sets with 0 copies, 0 sets in creation"`)
	require.Contains(t, out, "\nok\n")
	follow("reload")
	m.shell(t, "until journalctl --no-pager -u fsrvp-agent | grep 'SIGHUP: the configuration was read again'; do sleep 0.1; done")
	// A reload of a file with mistakes fails, and says which.
	out = m.shell(t, `cp /etc/fsrvp/agent.conf /root/good.conf; echo 'snapshotz = btrfs' >>/etc/fsrvp/agent.conf
! systemctl reload fsrvp-agent; journalctl --sync; journalctl --no-pager -u fsrvp-agent -n 20; cp /root/good.conf /etc/fsrvp/agent.conf; systemctl reload fsrvp-agent`)
	require.Contains(t, out, `"snapshotz" is no setting; write "snapshots"`)

	out = follow("copy")
	require.Contains(t, out, "shadow-copy set created")
	require.Contains(t, out, "Recovered")
	require.Contains(t, out, "\nhello from before\n")
	require.Contains(t, exposed(), "data@{")
	require.Equal(t, "1", metric(`fsrvp_sets{status="Recovered"}`))
	require.Equal(t, "1", metric("fsrvp_snapshots"))
	require.Equal(t, "1", metric(`fsrvp_sets_finished_total{outcome="complete"}`))
	require.Equal(t, "1", metric(`fsrvp_calls_total{method="CommitShadowCopySet",status="OK"}`))
	// Samba's helper, which is started again when it ends.
	require.Equal(t, "1", metric("fsrvp_samba_helper_running"))
	m.shell(t, `kill -9 $(pgrep -P $(systemctl show -P MainPID fsrvp-agent) python3)
until curl --silent http://127.0.0.1:9464/metrics | grep -x 'fsrvp_samba_helper_running 1' && curl --silent http://127.0.0.1:9464/metrics | grep -x 'fsrvp_samba_helper_restarts_total [1-9]'; do sleep 0.1; done`)
	follow("delete")
	require.NotContains(t, exposed(), "data@{")
	require.Empty(t, m.shell(t, "ls -A /srv/nas/.fsrvp"))
	require.Equal(t, "0", metric("fsrvp_snapshots"))
	require.Equal(t, "1", metric(`fsrvp_sets_finished_total{outcome="deleted"}`))

	// Somebody who may not: another account of the server.
	m.shell(t, `useradd --no-create-home mallory; printf 'x1\nx1\n' | smbpasswd -s -a mallory
rpcclient -U mallory%x1 localhost -c 'fss_create_expose nas_rollback ro data' || true`)
	require.NotEqual(t, "0", metric(`fsrvp_refused_total{reason="access"}`))

	// A set that has to live on through all that follows.
	manual["copy again"] = manualBlocks(t)["copy"]
	follow("copy again")
	require.Equal(t, "ok\n", health())
	readable := func() {
		t.Helper()
		m.shell(t, `rm -f /tmp/hello; smbclient -U "$LOGIN" "//localhost/data@{$COPY}" -c 'get hello /tmp/hello'; grep 'hello from before' /tmp/hello`)
		require.Contains(t, m.shell(t, "fsrvp-agent list"), m.shell(t, "echo -n $SET"))
	}
	m.shell(t, "echo 'hello from after' >/srv/nas/data/hello")
	readable()
	out = follow("upgrade")
	require.Contains(t, out, "fsrvp-agent 1.0.1")
	require.Equal(t, "1", metric(`fsrvp_build_info{version="1.0.1"}`))
	readable()
	require.Contains(t, m.shell(t, "cat /etc/fsrvp/agent.conf"), `allow = NAS\vssbackup`)

	// kill -9: systemd starts it again.
	m.shell(t, `old=$(systemctl show -P MainPID fsrvp-agent); kill -9 $old
while new=$(systemctl show -P MainPID fsrvp-agent); [ "$new" = 0 ] || [ "$new" = "$old" ] || [ "$(systemctl is-active fsrvp-agent)" != active ]; do sleep 0.1; done`)
	readable()
	require.Equal(t, "ok\n", health())

	// A stop of the process that hangs: the watchdog would end it. Its unit says after how long.
	require.Equal(t, "1min\n", m.shell(t, "systemctl show -P WatchdogUSec fsrvp-agent"))

	follow("backup")
	m.shell(t, "systemctl stop fsrvp-agent; rm /var/lib/fsrvp/*")
	follow("lost")
	require.Contains(t, m.shell(t, "journalctl --sync; journalctl --no-pager -u fsrvp-agent -n 20"),
		"fsrvp-agent state accept")
	require.Contains(t, exposed(), "data@{", "nothing was deleted")
	require.Equal(t, "failed\n", m.shell(t, "systemctl is-active fsrvp-agent || true"))
	follow("import")
	readable()
	require.Equal(t, "ok\n", health())

	m.shell(t, "systemctl stop fsrvp-agent; rm /var/lib/fsrvp/*")
	out = follow("accept")
	require.Contains(t, out, "removed")
	require.NotContains(t, exposed(), "data@{")
	require.Empty(t, m.shell(t, "ls -A /srv/nas/.fsrvp"))
	require.Equal(t, "ok\n", health())
	// With the hardening that the package has, the same copies.
	m.shell(t, `mkdir -p /etc/systemd/system/fsrvp-agent.service.d
cp /usr/share/fsrvp-agent/hardening.conf /etc/systemd/system/fsrvp-agent.service.d/
systemctl daemon-reload; systemctl restart fsrvp-agent`)
	m.shell(t, manualBlocks(t)["copy"])
	m.shell(t, manualBlocks(t)["delete"])
	require.Empty(t, m.shell(t, "ls -A /srv/nas/.fsrvp"))

	// An agent over TCP, at a socket of systemd's, as a user of its own.
	m.shell(t, `rm /etc/systemd/system/fsrvp-agent.service.d/*; cp /usr/share/fsrvp-agent/unprivileged.conf /etc/systemd/system/fsrvp-agent.service.d/
systemctl stop fsrvp-agent; rm -f /var/lib/fsrvp/*
mkdir -p /srv/plain/data; echo plain >/srv/plain/data/file
install -d -o fsrvp /srv/plain/copies
printf '\\backup@TEST\t878d8014606cda29677a44efa1353fc7\tS-1-5-21-1-2-3-1104,S-1-5-32-551\n' >/etc/fsrvp/users; chown fsrvp /etc/fsrvp/users; chmod 600 /etc/fsrvp/users
cat >/etc/fsrvp/agent.conf <<'END'
listen = systemd
share = data=/srv/plain/data
volume = /srv/plain/data
snapshots = copy
snapshot-dir = /srv/plain/copies
expose = directory:/srv/plain/copies/exposed
state = /var/lib/fsrvp
ntlm-users = /etc/fsrvp/users
END
systemctl daemon-reload; systemctl start fsrvp-agent.socket
[ "$(systemctl is-active fsrvp-agent)" = inactive ]
echo -n secret >/root/password; chmod 600 /root/password
fsrvp-conformance -server localhost -share '\\localhost\data' -user backup@TEST -password-file /root/password -mechanism ntlm -transport tcp:5555 \
	-run RecoveryComplete/EndsCreation`)
	require.Contains(t, m.shell(t, "ps -o user= -p $(systemctl show -P MainPID fsrvp-agent)"), "fsrvp")

	// The same under OpenRC, which starts an agent again that has been killed.
	m.shell(t, `systemctl disable --now fsrvp-agent.socket fsrvp-agent.service
sed -i 's/^listen = .*/listen = tcp:127.0.0.1:5555/' /etc/fsrvp/agent.conf; echo 'metrics = 127.0.0.1:9464' >>/etc/fsrvp/agent.conf
chown root /etc/fsrvp/users /srv/plain/copies; chown -R root /var/lib/fsrvp /srv/plain/copies
mkdir -p /run/openrc/{started,starting,stopping,inactive,wasinactive,failed,hotplugged,daemons,options,exclusive,scheduled,tmp}
touch /run/openrc/softlevel`) // as after a start of OpenRC's own
	follow("openrc")
	const healthy = "curl --fail --silent http://127.0.0.1:9464/healthz"
	m.shell(t, `until `+healthy+`; do sleep 0.1; done
rc-service fsrvp-agent status; rc-service fsrvp-agent checkconfig; rc-service fsrvp-agent reload
until grep 'SIGHUP: the configuration was read again' /var/log/fsrvp-agent.log; do sleep 0.1; done`)
	m.shell(t, `old=$(pgrep -x fsrvp-agent); kill -9 "$old"
while new=$(pgrep -x fsrvp-agent || true); [ -z "$new" ] || [ "$new" = "$old" ] || ! `+healthy+`; do sleep 0.1; done`)
	require.Contains(t, m.shell(t,
		`echo 'snapshotz = x' >>/etc/fsrvp/agent.conf; ! rc-service fsrvp-agent reload; sed -i '$d' /etc/fsrvp/agent.conf`), "is no setting")
	m.shell(t, "rc-service fsrvp-agent stop; ! pgrep -x fsrvp-agent; rc-update del fsrvp-agent default; rm /etc/init.d/fsrvp-agent")
	require.Empty(t, manual, "blocks of the manual that nobody has followed")

	// The demonstration of the container.
	demo, err := os.ReadFile("packaging/demo.sh")
	require.NoError(t, err)
	require.Contains(t, m.shell(t,
		"cat >/root/demo.sh <<'DEMO'\n"+string(demo)+"DEMO\nFSRVP_DEMO=/srv/demo sh /root/demo.sh backup"), " hello\n")
	m.shell(t, `FSRVP_DEMO=/srv/demo sh /root/demo.sh agent & agent=$!
until `+healthy+`; do sleep 0.1; kill -0 $agent; done
kill $agent; wait $agent`)

	// The package goes; the table stays.
	m.shell(t, "apt-get remove -y fsrvp-agent; [ ! -e /usr/bin/fsrvp-agent ]; [ -e /var/lib/fsrvp/agent.db ]")
}

// manualBlocks returns the commands of README.md that are marked to be run, by their names.
func manualBlocks(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- run: ([a-z]+) -->\n```sh\n(.*?)```\n").FindAllSubmatch(b, -1) {
		require.NotContains(t, blocks, string(m[1]))
		blocks[string(m[1])] = string(m[2])
	}
	require.Equal(t, strings.Count(string(b), "<!-- run:"), len(blocks))
	require.Equal(t, strings.Count(string(b), "```sh\n"), len(blocks), "every block of commands is run")
	return blocks
}

// packagesOf returns a directory with the packages of two versions.
func packagesOf(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(packagesEnv); dir != "" {
		return dir
	}
	dir := t.TempDir()
	for folder, version := range map[string]string{"old": "1.0.0", "new": "1.0.1"} {
		cmd := exec.CommandContext(t.Context(), "packaging/build", version, filepath.Join(dir, folder), "deb")
		cmd.Env = append(os.Environ(), "COMPRESSION=none")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return dir
}

// A machine is a Debian with its systemd at work.
type machine struct{ init int }

func bootMachine(t *testing.T, root, packages string) *machine {
	t.Helper()
	scratch := t.TempDir()
	require.NoError(t, os.Symlink(packages, filepath.Join(scratch, "debs")))
	disk := filepath.Join(scratch, "disk")
	require.NoError(t, os.WriteFile(disk, nil, 0o600))
	require.NoError(t, os.Truncate(disk, 256<<20))
	if out, err := exec.CommandContext(t.Context(), "mkfs.btrfs", "-q", disk).CombinedOutput(); err != nil {
		require.NoError(t, err, "%s", out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "testdata/boot.sh", root, scratch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var groups []string
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		for _, dir := range groups {
			removeGroups(t, dir)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "boot" {
		groups = append(groups, strings.TrimPrefix(lines.Text(), "cgroup "))
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	m := new(machine)
	require.Eventually(t, func() bool {
		if m.init == 0 {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid))
			m.init, _ = strconv.Atoi(strings.TrimSpace(string(b)))
			return false
		}
		state, _ := m.command(t.Context(), "systemctl is-system-running --wait").Output()
		return strings.TrimSpace(string(state)) == "running"
	}, time.Minute, 100*time.Millisecond, "systemd is not up: %s", &problems)
	return m
}

// variables are what the manual's blocks leave for later ones, as in one shell.
const variables = "/root/variables"

// command runs a script on the machine.
func (m *machine) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(m.init), "--all", "--root", "--wd",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive",
		"bash", "-euo", "pipefail", "-c", script)
	cmd.WaitDelay = time.Second // for what a script has left
	return cmd
}

// shell runs a script on the machine, which has to succeed, and returns what it prints.
func (m *machine) shell(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := m.command(ctx, "cd /root; . "+variables+" 2>/dev/null || true\n"+script+
		"\n{ declare -p PASSWORD LOGIN SET COPY >"+variables+" || true; } 2>/dev/null").CombinedOutput()
	if err != nil {
		log, _ := m.command(t.Context(), "journalctl --no-pager -n 60; tail -n 20 /var/log/samba/log.smbd").CombinedOutput()
		require.NoError(t, err, "%s\n%s\n--- %s", script, out, log)
	}
	return string(out)
}

// removeGroups removes a control group, with those in it, once the kernel has ended their processes.
func removeGroups(t *testing.T, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = os.Remove(dirs[i])
		}
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	}, 30*time.Second, 50*time.Millisecond, dir)
}
