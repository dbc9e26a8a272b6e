package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
)

// A site is a directory with what configurations name.
type site struct{ dir string }

func newSite(t *testing.T) *site {
	t.Helper()
	p := &site{t.TempDir()}
	require.NoError(t, os.Mkdir(p.path("data"), 0o755))
	p.write(t, "users", fmt.Sprintf("TEST\\backup\t%x\n", ntlm.NTHash("secret")), 0o600)
	p.write(t, "empty", "", 0o600)
	p.write(t, "damaged", "TEST\\backup 0123\n", 0o600)
	return p
}

func (p *site) path(name string) string { return filepath.Join(p.dir, name) }

func (p *site) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	require.NoError(t, os.WriteFile(p.path(name), []byte(text), mode))
	require.NoError(t, os.Chmod(p.path(name), mode)) // whatever the umask
	return p.path(name)
}

// config writes a configuration, in which $D is the directory.
func (p *site) config(t *testing.T, text string) string {
	t.Helper()
	return p.write(t, "agent.conf", strings.ReplaceAll(text, "$D", p.dir), 0o644)
}

// good is a configuration without mistakes, of 8 lines.
const good = `# an agent
listen = tcp:127.0.0.1:0
share = data=$D/data
expose = directory:$D/exposed
state = $D/state
ntlm-users = $D/users
allow = TEST\backup
snapshots = copy
`

// TestMistakes has each mistake in a file, and expects one sentence about it, which names file and
// line and says what to do.
func TestMistakes(t *testing.T) {
	replace := func(line, by string) string {
		require.Contains(t, good, line)
		return strings.Replace(good, line, by, 1)
	}
	for name, c := range map[string]struct {
		text string
		line int
		want string // a part of the sentence: the remedy
	}{
		"a name that there is not":             {good + "snapshotz = copy\n", 9, `"snapshotz" is no setting; write "snapshots"`},
		"a name like nothing":                  {good + "colour = red\n", 9, `fsrvp-agent -h lists them`},
		"a name in capitals":                   {replace("listen", "Listen"), 2, `write "listen"`},
		"no equals sign":                       {good + "drain 5s\n", 9, `has no "="; write it as "name = value"`},
		"nothing before the equals sign":       {good + "= 5s\n", 9, "no name before"},
		"a dash":                               {good + "-drain = 5s\n", 9, `write "drain = 5s"`},
		"two dashes":                           {good + "--drain = 5s\n", 9, `write "drain = 5s"`},
		"a section":                            {"[agent]\n" + good, 1, "remove the line"},
		"quotes":                               {replace(`TEST\backup`, `"TEST\backup"`), 7, `write "allow = TEST\\backup"`},
		"a comment behind a value":             {replace("snapshots = copy", "snapshots = copy # anywhere"), 8, "on a line of its own"},
		"no value":                             {replace("snapshots = copy", "snapshots ="), 8, `write "snapshots = VALUE", or remove the line`},
		"a switch without value":               {good + "keep-exposed\n", 9, `write "keep-exposed = yes"`},
		"a name alone":                         {good + "drain\n", 9, `write "drain = VALUE"`},
		"given twice":                          {good + "state = $D/other\n", 9, "line 5 has it already; remove one of the two"},
		"a switch with a number":               {good + "keep-exposed = 7\n", 9, "write yes or no"},
		"bytes that are no text":               {good + "name = fs\x001\n", 9, "editor of plain text"},
		"bytes that are no UTF-8":              {good + "name = fs\xff1\n", 9, "editor of plain text"},
		"a time without unit":                  {good + "drain = 30\n", 9, "with its unit, such as 30s"},
		"a time in words":                      {good + "drain = 5 minutes\n", 9, "with its unit, such as 30s"},
		"a negative time":                      {good + "drain = -5s\n", 9, "write 0 or more"},
		"a flag of the command line":           {good + "accept-state = yes\n", 9, "give the agent the flag -accept-state"},
		"a configuration in a configuration":   {good + "config = $D/other\n", 9, "remove the line"},
		"-v":                                   {good + "v = yes\n", 9, `write "log-level = debug"`},
		"a level of logs that there is not":    {good + "log-level = verbose\n", 9, "write error, warn, info or debug"},
		"a profile that there is not":          {good + "profile = samba\n", 9, "write windows or strict"},
		"a listener of no kind":                {replace("tcp:127.0.0.1:0", "pigeon:coop"), 2, "write tcp:HOST:PORT, samba:NCALRPC_DIR or systemd"},
		"a listener without a port":            {replace("tcp:127.0.0.1:0", "tcp:127.0.0.1"), 2, "write HOST:PORT"},
		"a port that is none":                  {replace("tcp:127.0.0.1:0", "tcp:127.0.0.1:99999"), 2, "a number from 1 to 65535"},
		"an IPv6 address without brackets":     {replace("tcp:127.0.0.1:0", "tcp:::1:5555"), 2, "[ADDRESS]:PORT"},
		"a pipe without a directory":           {replace("tcp:127.0.0.1:0", "samba:"), 2, "write samba:/run/samba/ncalrpc"},
		"a pipe in a relative directory":       {replace("tcp:127.0.0.1:0", "samba:run"), 2, "a path that begins with /"},
		"a listener twice":                     {good + "listen = tcp:127.0.0.1:0\n", 9, "remove one of the two"},
		"no listener":                          {replace("listen = tcp:127.0.0.1:0\n", ""), 8, `listen is missing; write "listen = samba:/run/samba/ncalrpc"`},
		"the mapper where the agent is":        {good + "epmapper = tcp:127.0.0.1:0\n", 9, "a port of its own"},
		"a mapper of no kind":                  {good + "epmapper = 127.0.0.1:135\n", 9, "write tcp:HOST:PORT"},
		"nobody can log on":                    {replace("ntlm-users = $D/users\n", ""), 2, `add "keytab = /etc/krb5.keytab"`},
		"a share without a directory":          {replace("data=$D/data", "data"), 3, "write NAME=DIR"},
		"a share of a directory that is not":   {replace("data=$D/data", "data=$D/none"), 3, "make it, or mount what it is on"},
		"a share of a file":                    {replace("data=$D/data", "data=$D/users"), 3, "name the directory that it is in"},
		"a share by a relative path":           {replace("data=$D/data", "data=data"), 3, "a path that begins with /"},
		"a share that no share can be called":  {replace("data=$D/data", `a\b=$D/data`), 3, "choose one without"},
		"two shares of one name":               {good + "share = Data=$D\n", 9, "give the second share another name"},
		"shares of nobody":                     {replace("share = data=$D/data", "shares = nfs"), 3, "write samba, which is all that it can be"},
		"shares of Samba and others":           {good + "shares = samba\n", 9, "keep shares for those of Samba"},
		"no shares":                            {replace("share = data=$D/data\n", ""), 8, `write "share = NAME=DIR"`},
		"exposed nowhere":                      {replace("expose = directory:$D/exposed\n", ""), 8, `write "expose = samba"`},
		"exposed on tape":                      {replace("directory:$D/exposed", "tape"), 4, "write directory:DIR or samba"},
		"exposed in a relative directory":      {replace("directory:$D/exposed", "directory:exposed"), 4, "a path that begins with /"},
		"directories exposed by Samba":         {replace("directory:$D/exposed", "samba"), 4, `use "shares = samba" instead`},
		"previous versions without Samba":      {good + "previous-versions = $D/previous\n", 9, `add "shares = samba"`},
		"Samba's configuration without Samba":  {good + "smb-conf = $D/users\n", 9, `add "shares = samba", or remove it`},
		"Samba's configuration that is not":    {good + "smb-conf = $D/none\n", 9, "make it, or write its right path"},
		"no state":                             {replace("state = $D/state\n", ""), 8, `write "state = /var/lib/fsrvp"`},
		"a state in a relative directory":      {replace("state = $D/state", "state = state"), 5, "a path that begins with /"},
		"a state that is a file":               {replace("state = $D/state", "state = $D/users"), 5, "name a directory"},
		"a keytab that is not":                 {good + "keytab = $D/none\n", 9, "make it, or write its right path"},
		"a keytab that is none":                {good + "keytab = $D/users\n", 9, "klist -k"},
		"a keytab that is empty":               {good + "keytab = $D/empty\n", 9, "klist -k"},
		"a keytab that is a directory":         {good + "keytab = $D/data\n", 9, "name a file"},
		"accounts that are not":                {replace("$D/users", "$D/none"), 6, "make it, or write its right path"},
		"accounts that are none":               {replace("$D/users", "$D/damaged"), 6, "a tab, and 32 hex digits"},
		"accounts and winbind":                 {good + "ntlm-winbind = yes\n", 6, "keep the one that knows the accounts"},
		"an account without domain":            {replace(`TEST\backup`, "backup"), 7, `write S-1-5-21-..., DOMAIN\user or user@REALM`},
		"an account without user":              {replace(`TEST\backup`, `TEST\`), 7, `write DOMAIN\user`},
		"an account without realm":             {replace(`TEST\backup`, "backup@"), 7, "write user@REALM"},
		"an account twice":                     {good + "allow = TEST\\backup\n", 9, "remove one of the two"},
		"a realm of nobody":                    {good + "case-sensitive-realm = EXAMPLE.COM\n", 9, "write it as allow has it"},
		"a realm that is an account":           {good + "case-sensitive-realm = ann@EXAMPLE.COM\n", 9, "write what follows the @"},
		"PACs without Kerberos":                {good + "require-pac = yes\n", 9, `add "keytab = /etc/krb5.keytab", or remove it`},
		"snapshots of no kind":                 {replace("snapshots = copy", "snapshots = btfs"), 8, "write auto, zfs, btrfs, snapper, reflink, copy or command:PROGRAM"},
		"snapshots by no program":              {replace("snapshots = copy", "snapshots = command:"), 8, "write command:PROGRAM"},
		"snapshots by a program that is not":   {replace("snapshots = copy", "snapshots = command:$D/none\nvolume = $D"), 8, "chmod +x"},
		"snapshots by a program, of nothing":   {replace("snapshots = copy", "snapshots = command:/bin/true"), 8, `add "volume = DIR"`},
		"an argument for nobody":               {good + "snapshot-arg = x\n", 9, `write "snapshots = command:PROGRAM", or remove it`},
		"a time for nobody":                    {good + "snapshot-timeout = 1m\n", 9, `write "snapshots = command:PROGRAM", or remove it`},
		"volumes for one that finds them":      {replace("snapshots = copy", "snapshots = btrfs\nvolume = $D/data"), 9, "remove it"},
		"a volume that is not":                 {good + "volume = $D/none\n", 9, "make it, or mount what it is on"},
		"a directory for snapper":              {replace("snapshots = copy", "snapshots = snapper\nsnapshot-dir = $D/x"), 9, "remove it"},
		"two directories for zfs":              {replace("snapshots = copy", "snapshots = zfs\nsnapshot-dir = $D/x\nsnapshot-dir = $D/y"), 10, "remove all but one"},
		"metrics without a port":               {good + "metrics = localhost\n", 9, "write HOST:PORT"},
		"metrics at a port with a name":        {good + "metrics = localhost:prometheus\n", 9, "a number from 1 to 65535"},
		"a name of the server that is a share": {good + `name = \\fs1` + "\n", 9, "without the rest"},
		"an owner of nothing":                  {good + "cluster = $D/table\nowner = node1\n", 10, "write SHARE=HOST"},
		"an owner without name":                {good + "cluster = $D/table\nowner = data=\n", 10, "write SHARE=HOST"},
		"an owner that is a share":             {good + "cluster = $D/table\nowner = data=\\\\fs1\n", 10, "without the rest"},
		"an owner of what no share is called":  {good + "cluster = $D/table\nowner = a\\b=node1\n", 10, "cannot be the name of a share"},
		"two owners":                           {good + "cluster = $D/table\nowner = data=n1\nowner = Data=n2\n", 11, "remove one of the two"},
		"an owner of a server alone":           {good + "owner = data=node1\n", 9, `add "cluster = DIR", or remove it`},
		"security of RPC's own without any": {
			strings.Replace(strings.Replace(good, "ntlm-users = $D/users", "require-rpc-security = yes", 1),
				"tcp:127.0.0.1:0", "samba:$D", 1), 6,
			`add "keytab = /etc/krb5.keytab"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSite(t)
			path := p.config(t, c.text)
			err := run(t.Context(), []string{"-config", path, "-check"}, io.Discard, io.Discard)
			require.Error(t, err)
			require.Equal(t, 1, strings.Count(err.Error(), "\n")+1, "one mistake, one sentence: %v", err)
			require.Regexp(t, "^"+regexp.QuoteMeta(fmt.Sprintf("%s:%d: ", path, c.line)), err.Error())
			require.Contains(t, err.Error(), c.want)
			start := run(t.Context(), []string{"-config", path}, io.Discard, io.Discard)
			require.EqualError(t, start, err.Error(), "an agent that starts says the same")
		})
	}
}

// TestMistakenFile has mistakes of the file itself, which has no line then.
func TestMistakenFile(t *testing.T) {
	p := newSite(t)
	for name, c := range map[string]struct{ path, want string }{
		"none":                 {p.path("none"), "name one that exists with -config"},
		"a directory":          {p.dir, "name the configuration file itself"},
		"large":                {p.write(t, "large", strings.Repeat("#\n", maxConfig), 0o600), "name the right file"},
		"of others":            {p.write(t, "others", good, 0o666), "run chmod go-w"},
		"of others' and group": {p.write(t, "group", good, 0o664), "run chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), []string{"-config", c.path, "-check"}, io.Discard, io.Discard)
			require.ErrorContains(t, err, c.path)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// TestEveryMistakeAtOnce: a file with several mistakes is told all of them, in the order of its
// lines where they are mistakes of lines.
func TestEveryMistakeAtOnce(t *testing.T) {
	p := newSite(t)
	path := p.config(t, "lissen = tcp:127.0.0.1:0\n\nstates = $D\n")
	err := run(t.Context(), []string{"-config", path, "-check"}, io.Discard, io.Discard)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], path+":1: ")
	require.Contains(t, lines[1], path+":3: ")
}

func TestCheck(t *testing.T) {
	p := newSite(t)
	path := p.config(t, good)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-config", path, "-check"}, &out, io.Discard))
	require.Equal(t, path+": no mistakes found\n", out.String())
	require.NoDirExists(t, p.path("state"), "-check changes nothing")
	require.NoDirExists(t, p.path("exposed"))
}

// TestConfigAndFlags reads the same settings from a file and from flags, and has flags go before a
// file.
func TestConfigAndFlags(t *testing.T) {
	p := newSite(t)
	path := p.config(t, good+"drain = 1m30s\nkeep-exposed = yes\nname = fs1\nname=fs2\n  \n; also a comment\n")
	fromFile, err := parse([]string{"-config", path}, io.Discard)
	require.NoError(t, err)
	fromFlags, err := parse([]string{
		"-listen", "tcp:127.0.0.1:0", "-share", "data=" + p.path("data"), "-expose", "directory:" + p.path("exposed"), "-state", p.path("state"),
		"-ntlm-users", p.path("users"), "-allow", `TEST\backup`, "-snapshots", "copy", "-drain", "90s", "-keep-exposed", "-name", "fs1", "-name", "fs2",
	}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []string{"config"}, changes(fromFile, fromFlags))

	both, err := parse([]string{"-drain", "5s", "-name", "fs3", "-keep-exposed=false", "-config", path}, io.Discard)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"drain", "name", "keep-exposed"}, changes(fromFile, both))
	require.Equal(t, 5*time.Second, both.drain)
	require.Equal(t, []string{"fs3"}, []string(both.names))
	require.False(t, both.keep)
}

// TestSettings checks the table: each setting has a flag, words for what it is, and a place in the
// manual page.
func TestSettings(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range settings() {
		require.False(t, seen[s.name], s.name)
		seen[s.name] = true
		require.NotEmpty(t, s.group, s.name)
		require.NotEmpty(t, s.usage, s.name)
		require.Equal(t, s.several(), strings.HasSuffix(s.usage, severalTimes), s.name)
		require.Equal(t, !s.toggle(), strings.Count(s.usage, "`") == 2, "%s: a value has a name in backquotes", s.name)
		var o, other options
		switch p := s.field(&o).(type) {
		case *bool:
			*p = true
		case *string:
			*p = "x"
		case *time.Duration:
			*p = 1
		case interface{ Set(string) error }:
			require.NoError(t, p.Set("x"))
		}
		require.Contains(t, changes(&o, &other), s.name, "no field of another setting")
		s.copy(&other, &o)
		require.Empty(t, changes(&o, &other), s.name)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("[x]\n= \nallow = \"a\"\n-v\nname\xff = x\n"))
	f.Add([]byte("\ufeff# with a mark\r\ndrain = 5s\r\n"))
	path := filepath.Join(f.TempDir(), "agent.conf")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		o, flags := newFlags()
		err := readConfig(path, flags, o)
		if err == nil {
			return
		}
		lines := bytes.Count(b, []byte("\n")) + 1
		for _, sentence := range strings.Split(err.Error(), "\n") {
			var n int
			_, scanErr := fmt.Sscanf(strings.TrimPrefix(sentence, path), ":%d:", &n)
			require.NoError(t, scanErr, sentence)
			require.True(t, n >= 1 && n <= lines, sentence)
		}
	})
}
