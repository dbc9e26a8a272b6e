package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/samba"
)

// check looks for mistakes in the settings, first in each value and then in how they go together.
func (o *options) check(rest []string) error {
	var bad problems
	if len(rest) > 0 {
		bad.add("%q is no flag; -h lists them", strings.Join(rest, " "))
	}
	o.checkValues(&bad)
	if len(o.listen) == 0 {
		bad.add("%s is missing; write %s or %s", o.from.missing("listen"),
			o.from.example("listen", "samba:/run/samba/ncalrpc"), o.from.example("listen", "tcp:127.0.0.1:5555"))
	}
	o.checkTwice(&bad, "listen", o.listen)
	o.checkOwners(&bad)
	if i := slices.Index(o.listen, o.epmapper); o.epmapper != "" && i >= 0 {
		bad.add("%s is where the agent listens too; give the endpoint mapper a port of its own, which is 135", o.from.at("epmapper", 0))
	}
	o.checkAccess(&bad)
	o.checkTogether(&bad)
	return bad.err()
}

// checkBackends checks the settings that say what an agent works on, for commands of an
// administrator.
func (o *options) checkBackends() error {
	var bad problems
	o.checkTogether(&bad)
	return bad.err()
}

// checkValues checks each value by itself.
func (o *options) checkValues(bad *problems) {
	for _, s := range settings() {
		for i, v := range s.all(o) {
			err := error(nil)
			if path := pathOf(&s, v); path != "" && !filepath.IsAbs(path) && i < len(o.from.lines[s.name]) {
				err = fmt.Errorf("%q depends on the directory in which the agent starts; write a path that begins with /", path)
			} else if s.check != nil {
				err = s.check(v)
			}
			if err != nil {
				bad.add("%s is %q: %w", o.from.at(s.name, i), v, err)
			}
		}
	}
}

// all returns the values of a setting that are not empty.
func (s *setting) all(o *options) []string {
	if list := s.values(o); list != nil || s.toggle() {
		if s.toggle() {
			return nil
		}
		return list
	}
	return nil
}

// pathOf returns the path in a value, if it has one.
func pathOf(s *setting, value string) string {
	switch {
	case s.name == "share":
		_, dir, _ := strings.Cut(value, "=")
		return dir
	case s.name == "expose" && strings.HasPrefix(value, "directory:"), s.name == "listen" && strings.HasPrefix(value, "samba:"):
		_, dir, _ := strings.Cut(value, ":")
		return dir
	case slices.Contains(s.words, "<dir>"), slices.Contains(s.words, "<file>"):
		return value
	}
	return ""
}

// checkTwice finds values that are given twice.
func (o *options) checkTwice(bad *problems, name string, values []string) {
	for i, v := range values {
		if slices.Index(values, v) < i {
			bad.add("%s is %q, which is given twice; remove one of the two", o.from.at(name, i), v)
		}
	}
}

// checkOwners checks the owners of shares together.
func (o *options) checkOwners(bad *problems) {
	names := map[string]bool{}
	for i, v := range o.owners {
		if o.cluster == "" {
			bad.add("%s is about a cluster's nodes, and there is none; add %s, or remove it", o.from.at("owner", i),
				o.from.example("cluster", "DIR"))
			return
		}
		share, _ := ownerOf(v)
		if share = strings.ToLower(share); names[share] {
			bad.add("%s is %q, and the share has an owner already; remove one of the two", o.from.at("owner", i), v)
		}
		names[share] = true
	}
}

// checkAccess checks what says who may call.
func (o *options) checkAccess(bad *problems) {
	mechanism := o.keytab != "" || o.ntlmUsers != "" || o.winbind
	if o.ntlmUsers != "" && o.winbind {
		bad.add("%s and ntlm-winbind exclude each other; keep the one that knows the accounts", o.from.at("ntlm-users", 0))
	}
	if i := slices.IndexFunc(o.listen, func(s string) bool { return strings.HasPrefix(s, "tcp:") || s == "systemd" }); i >= 0 && !mechanism {
		bad.add("%s needs a way to tell who calls, and nobody may call without security; add %s, or ntlm-users or ntlm-winbind",
			o.from.at("listen", i), o.from.example("keytab", "/etc/krb5.keytab"))
	}
	if o.requireRPC && !mechanism {
		bad.add("%s needs a mechanism of security; add %s, or ntlm-users or ntlm-winbind",
			o.from.at("require-rpc-security", 0), o.from.example("keytab", "/etc/krb5.keytab"))
	}
	if o.requirePAC && o.keytab == "" {
		bad.add("%s is about Kerberos, which has no keytab; add %s, or remove it", o.from.at("require-pac", 0), o.from.example("keytab", "/etc/krb5.keytab"))
	}
	o.checkTwice(bad, "allow", o.allow)
	for i, realm := range o.exact {
		used := slices.ContainsFunc(o.allow, func(who string) bool {
			return strings.HasSuffix(who, "@"+realm) || strings.HasPrefix(who, realm+`\`)
		})
		if !used {
			bad.add("%s is %q, a realm of which no account is allowed; write it as allow has it, case and all, or remove it",
				o.from.at("case-sensitive-realm", i), realm)
		}
	}
}

// checkTogether checks how the settings of what is copied go together.
func (o *options) checkTogether(bad *problems) {
	from := &o.from
	if len(o.share) == 0 && o.shares == "" {
		bad.add("%s is missing: nothing says what can be copied; write %s, or %s for those of Samba",
			from.missing("share"), from.example("share", "NAME=DIR"), from.example("shares", "samba"))
	}
	if len(o.share) > 0 && o.shares != "" {
		bad.add("%s and share exclude each other; keep shares for those of Samba, or share for directories", from.at("shares", 0))
	}
	names := map[string]bool{}
	for i, s := range o.share {
		name, _, _ := strings.Cut(s, "=")
		if key := strings.ToLower(name); names[key] {
			bad.add("%s: %q is given twice, whatever the case; give the second share another name", from.at("share", i), name)
		} else {
			names[key] = true
		}
	}
	if o.state == "" {
		bad.add("%s is missing: the directory of the agent's table; write %s", from.missing("state"), from.example("state", "/var/lib/fsrvp"))
	}
	switch {
	case o.expose == "":
		bad.add("%s is missing; write %s, or %s", from.missing("expose"), from.example("expose", "samba"), from.example("expose", "directory:DIR"))
	case o.expose == "samba" && o.shares == "" && len(o.share) > 0:
		bad.add("%s: exposed shares take their rights from those of Samba; use %s instead of share with it", from.at("expose", 0), from.example("shares", "samba"))
	}
	if o.previous != "" && (o.expose != "samba" || o.shares != "samba") {
		bad.add("%s works with copies that Samba exposes alone; add %s and %s, or remove it",
			from.at("previous-versions", 0), from.example("shares", "samba"), from.example("expose", "samba"))
	}
	if o.smbConf != "" && o.shares != "samba" && o.expose != "samba" && !slices.ContainsFunc(o.listen, isSamba) {
		bad.add("%s is about Samba, which the agent has nothing to do with; add %s, or remove it", from.at("smb-conf", 0), from.example("shares", "samba"))
	}
	o.checkSnapshotSettings(bad)
}

func isSamba(listen string) bool { return strings.HasPrefix(listen, "samba:") }

// checkSnapshotSettings checks that each setting of snapshots has a backend that it is for.
func (o *options) checkSnapshotSettings(bad *problems) {
	from := &o.from
	command := strings.HasPrefix(o.snapshots, "command:")
	if command && len(o.volume) == 0 {
		bad.add("%s needs to know the volumes; add %s for each", from.at("snapshots", 0), from.example("volume", "DIR"))
	}
	if len(o.snapArg) > 0 && !command {
		bad.add("%s is for a program that takes snapshots; write %s, or remove it", from.at("snapshot-arg", 0), from.example("snapshots", "command:PROGRAM"))
	}
	if o.snapTimeout != 0 && !command {
		bad.add("%s is for a program that takes snapshots; write %s, or remove it", from.at("snapshot-timeout", 0), from.example("snapshots", "command:PROGRAM"))
	}
	if len(o.volume) > 0 && slices.Contains([]string{"btrfs", "zfs", "snapper"}, o.snapshots) {
		bad.add("%s is for reflink, copy and command, and %s finds its volumes itself; remove it", from.at("volume", 0), o.snapshots)
	}
	if len(o.snapDir) > 0 && (command || o.snapshots == "snapper") {
		bad.add("%s has no meaning with %s, which keeps snapshots where it likes; remove it", from.at("snapshot-dir", 0), o.snapshots)
	}
	if len(o.snapDir) > 1 && o.snapshots == "zfs" {
		bad.add("%s: zfs mounts all snapshots in one directory; remove all but one", from.at("snapshot-dir", 1))
	}
}

// checkMachine looks at what only the machine can tell, for -check: whether its Samba is one that
// an agent can work with.
func (o *options) checkMachine(ctx context.Context) error {
	var bad problems
	if o.shares == "samba" || o.expose == "samba" {
		s, err := samba.New(ctx, &samba.Config{SmbConf: o.smbConf, ProgramsOnly: true, Clustered: o.cluster != ""})
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			bad.add("%s: %w", o.from.at("shares", 0), err)
		}
	}
	if o.winbind {
		if _, err := exec.LookPath("wbinfo"); err != nil {
			bad.add("%s needs the programs of winbind, and there is no wbinfo; install winbind, or remove it", o.from.at("ntlm-winbind", 0))
		}
	}
	for i, listen := range o.listen {
		if err := checkListenable(listen); err != nil {
			bad.add("%s is %q: %w", o.from.at("listen", i), listen, err)
		}
	}
	return bad.err()
}

// checkListenable looks whether this machine can have a listener, but not whether its port is free:
// the agent itself may have it.
func checkListenable(listen string) error {
	dir, ok := strings.CutPrefix(listen, "samba:")
	if !ok {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("there is no directory %s; write what \"testparm -s --parameter-name='ncalrpc dir'\" prints", filepath.Dir(dir))
	}
	return nil
}

// The checks of single values.

func oneOf(words ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(words, value) {
			return nil
		}
		if len(words) == 1 {
			return fmt.Errorf("write %s, which is all that it can be, or leave it out", words[0])
		}
		return fmt.Errorf("write %s or %s", strings.Join(words[:len(words)-1], ", "), words[len(words)-1])
	}
}

func notNegative(value string) error {
	if d, err := time.ParseDuration(value); err == nil && d < 0 {
		return errors.New("no time is less than nothing; write 0 or more")
	}
	return nil
}

func snapshotKinds() []string {
	return []string{"auto", "zfs", "btrfs", "snapper", "reflink", "copy"}
}

func checkSnapshots(value string) error {
	if program, ok := strings.CutPrefix(value, "command:"); ok {
		if program == "" {
			return errors.New("the program is missing; write command:PROGRAM")
		}
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("there is no program %s that can be executed; write its path, and run chmod +x on it", program)
		}
		return nil
	}
	if !slices.Contains(snapshotKinds(), value) {
		return fmt.Errorf("write %s or command:PROGRAM", strings.Join(snapshotKinds(), ", "))
	}
	return nil
}

func checkShare(value string) error {
	name, dir, ok := strings.Cut(value, "=")
	if !ok || name == "" || dir == "" {
		return errors.New("write NAME=DIR, the name of the share and its directory")
	}
	if n, err := fsrvp.ParseShareName(`\\localhost\` + name); err != nil || n.Share != name {
		return fmt.Errorf("%q cannot be the name of a share; choose one without the characters \\ / : * ? \" < > |", name)
	}
	return checkDir(dir)
}

func checkOwner(value string) error {
	i := strings.LastIndexByte(value, '=')
	if i <= 0 || i == len(value)-1 {
		return errors.New("write SHARE=HOST, the name of the share and the node's, or *=HOST for all others")
	}
	name, host := value[:i], value[i+1:]
	if n, err := fsrvp.ParseShareName(`\\localhost\` + name); name != "*" && (err != nil || n.Share != name) {
		return fmt.Errorf("%q cannot be the name of a share", name)
	}
	if err := checkHostName(host); err != nil {
		return fmt.Errorf("%q: %w", host, err)
	}
	return nil
}

func checkExpose(value string) error {
	if dir, ok := strings.CutPrefix(value, "directory:"); value == "samba" || ok && dir != "" {
		return nil
	}
	return errors.New("write directory:DIR or samba")
}

func checkDir(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s; make it, or mount what it is on", path)
	case err != nil:
		return fmt.Errorf("%w; give the agent's user the right to see it", err)
	case !info.IsDir():
		return fmt.Errorf("%s is no directory; name the directory that it is in", path)
	}
	return nil
}

// checkAbsolute checks the path of a directory that the agent makes where there is none.
func checkAbsolute(path string) error {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is a file; name a directory", path)
	}
	return nil
}

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s; make it, or write its right path", path)
	case err != nil:
		return fmt.Errorf("%w; give the agent's user the right to read it", err)
	case info.IsDir():
		return fmt.Errorf("%s is a directory; name a file", path)
	}
	return nil
}

func checkKeytab(path string) error {
	if err := checkFile(path); err != nil {
		return err
	}
	keytab, err := krb5.LoadKeytab(path)
	if err != nil {
		return fmt.Errorf("%w; \"klist -k %s\" shows what it has", err, path)
	}
	if len(keytab.Principals()) == 0 {
		return fmt.Errorf("it has no keys; export those of host/ and cifs/ of this server, as by \"net ads keytab create\"")
	}
	return nil
}

func checkHashFile(path string) error {
	if err := checkFile(path); err != nil {
		return err
	}
	if _, err := ntlm.OpenHashFile(path); err != nil {
		return fmt.Errorf("%w; a line is DOMAIN\\user, a tab, and 32 hex digits", err)
	}
	return nil
}

func checkAllow(value string) error {
	if domain, user, ok := strings.Cut(value, `\`); ok {
		if domain == "" || user == "" || strings.Contains(user, `\`) {
			return errors.New(`the domain or the user is missing; write DOMAIN\user`)
		}
		return nil
	}
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		if i == 0 || i == len(value)-1 {
			return errors.New("the user or the realm is missing; write user@REALM")
		}
		return nil
	}
	if _, err := dcerpc.ParseSID(value); err != nil {
		return errors.New(`it is no SID and has no domain; write S-1-5-21-..., DOMAIN\user or user@REALM`)
	}
	return nil
}

func checkRealm(value string) error {
	if strings.ContainsAny(value, `\@ `) {
		return errors.New("it is more than a realm; write what follows the @ in the names of its accounts")
	}
	return nil
}

func checkHostName(value string) error {
	if n, err := fsrvp.ParseShareName(`\\` + value + `\share`); err != nil || n.Share != "share" {
		return errors.New("it cannot be the name or the address of a server; write it as in \\\\NAME\\share, without the rest")
	}
	return nil
}

func checkListen(value string) error {
	if value == "systemd" {
		return nil
	}
	if dir, ok := strings.CutPrefix(value, "samba:"); ok {
		if dir == "" {
			return errors.New("the directory is missing; write samba:/run/samba/ncalrpc, or what testparm calls the ncalrpc dir")
		}
		return nil
	}
	if !strings.HasPrefix(value, "tcp:") {
		return errors.New("write tcp:HOST:PORT, samba:NCALRPC_DIR or systemd")
	}
	return checkTCP(value)
}

func checkTCP(value string) error {
	addr, ok := strings.CutPrefix(value, "tcp:")
	if !ok {
		return errors.New("write tcp:HOST:PORT")
	}
	return checkAddress(addr)
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("the port is missing, or an IPv6 address is without brackets; write HOST:PORT or [ADDRESS]:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port; write a number from 1 to 65535", port)
	} else if n > 65535 {
		return fmt.Errorf("%d is no port; write a number from 1 to 65535", n)
	}
	return nil
}

func logLevels() []string { return []string{"error", "warn", "info", "debug"} }
