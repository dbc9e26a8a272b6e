//go:build unix

package samba

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// fakes are Samba's programs, as far as this package uses them. The test binary is linked under
// their names into a directory, where they also keep their state.
var fakes = map[string]func() int{
	"net":        func() int { return fake("net", fakeNet) },
	"testparm":   func() int { return fake("testparm", fakeTestparm) },
	"sharesec":   func() int { return fake("sharesec", fakeSharesec) },
	"smbcontrol": func() int { return fake("smbcontrol", func(*fakeState, []string) error { return nil }) },
	"smbstatus":  func() int { return fake("smbstatus", fakeSmbstatus) },
}

// A fakeState is what the fakes know, and the test looks at and changes.
type fakeState struct {
	Text     string            // what testparm prints before the registry's shares
	Registry map[string]string // parameters of shares, as testparm prints them
	SDs      map[string]string
	Users    []string // lines of smbstatus, one for each time that it is run; the last one stays
}

// A fakeFault is what goes wrong.
type fakeFault struct {
	Command string // the beginning of the command, from the program's name on
	Skip    int    // times that it succeeds before
	Mode    string // before: fails; after: does it, and fails; hang: does not end, nor does what it has started
}

// A fakeCall is one line of the file calls.
type fakeCall struct {
	Args []string
	Env  []string
	Dir  string
}

func fake(program string, do func(*fakeState, []string) error) int {
	home := filepath.Dir(os.Args[0])
	err := func() error {
		args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
			return a == "--debuglevel=0" || strings.HasPrefix(a, "--configfile=") || a == "--"
		})
		command := program + " " + strings.Join(args, " ")
		if err := note(home, program); err != nil {
			return err
		}
		fault, err := hit(home, command)
		if err != nil {
			return err
		}
		switch fault {
		case "before":
			return errors.New("no such luck")
		case "hang":
			return hang(home)
		}
		var state fakeState
		if err := load(home, "state", &state); err != nil {
			return err
		}
		if err := do(&state, args); err != nil {
			return err
		}
		if err := store(home, "state", state); err != nil {
			return err
		}
		if fault == "after" {
			return errors.New("out of luck")
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 255
	}
	return 0
}

// hit tells how a command is to fail, if it is.
func hit(home, command string) (mode string, err error) {
	var faults []fakeFault
	if err := load(home, "faults", &faults); err != nil {
		return "", err
	}
	for i := range faults {
		f := &faults[i]
		if !strings.HasPrefix(command, f.Command) {
			continue
		}
		if f.Skip == 0 {
			return f.Mode, nil
		}
		f.Skip--
		return "", store(home, "faults", faults)
	}
	return "", nil
}

// note writes down that a program was called.
func note(home, program string) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	line, err := json.Marshal(fakeCall{Args: append([]string{program}, os.Args[1:]...), Env: os.Environ(), Dir: dir})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(home, "calls"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// hang starts a process that does not end, and does not end itself. Both keep a pipe open.
func hang(home string) error {
	pipe, err := os.OpenFile(filepath.Join(home, "pipe"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "1000")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{pipe}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := pipe.WriteString("both hang"); err != nil {
		return err
	}
	return cmd.Wait()
}

func load(home, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(home, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, json.Unmarshal(b, v))
}

func store(home, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if s, ok := v.(fakeState); ok {
		for db, of := range map[string]any{"share_info.tdb": s.SDs, "registry.tdb": []any{s.Registry, s.Text}} {
			content, err := json.Marshal(of)
			if err != nil {
				return err
			}
			if old, err := os.ReadFile(filepath.Join(home, db)); err == nil && string(old) == string(content) {
				continue
			}
			if err := replace(home, db, content); err != nil {
				return err
			}
		}
	}
	return replace(home, name, b)
}

// replace writes a file under another name, and renames it.
func replace(home, name string, b []byte) error {
	temp := filepath.Join(home, fmt.Sprintf("%s.%d", name, os.Getpid()))
	return errors.Join(os.WriteFile(temp, b, 0o600), os.Rename(temp, filepath.Join(home, name)))
}

func (s *fakeState) find(name string) (string, bool) {
	for have := range s.Registry {
		if strings.EqualFold(have, name) {
			return have, true
		}
	}
	return "", false
}

func fakeNet(s *fakeState, args []string) error {
	if len(args) == 1 && args[0] == "--version" {
		fmt.Println("Version " + fakeRelease)
		return nil
	}
	if len(args) < 2 || args[0] != "conf" {
		return fmt.Errorf("net: %q", args)
	}
	switch args = args[1:]; args[0] {
	case "listshares":
		for name := range s.Registry {
			fmt.Println(name)
		}
	case "import":
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		head, params, ok := strings.Cut(string(text), "\n")
		if !ok || head != "["+args[2]+"]" {
			return fmt.Errorf("no section %q in %q", args[2], text)
		}
		s.Registry[args[2]] = params
	case "delshare":
		name, ok := s.find(args[1])
		if !ok {
			return errors.New("SBC_ERR_NO_SUCH_SERVICE")
		}
		delete(s.Registry, name)
		delete(s.SDs, name)
	case "setparm":
		name, ok := s.find(args[1])
		if !ok {
			return errors.New("SBC_ERR_NO_SUCH_SERVICE")
		}
		var kept string
		for line := range strings.Lines(s.Registry[name]) {
			if !strings.HasPrefix(line, "\t"+args[2]+" = ") {
				kept += line
			}
		}
		s.Registry[name] = kept + fmt.Sprintf("\t%s = %s\n", args[2], args[3])
	default:
		return fmt.Errorf("net conf: %q", args)
	}
	return nil
}

func fakeTestparm(s *fakeState, _ []string) error {
	fmt.Print(s.Text)
	for name, params := range s.Registry {
		fmt.Printf("\n\n[%s]\n%s", name, params)
	}
	return nil
}

func fakeSharesec(s *fakeState, args []string) error {
	name, option := args[0], args[1]
	have, ok := s.find(name)
	if !ok {
		if !strings.Contains(s.Text, "["+name+"]") {
			return fmt.Errorf("Invalid sharename: %s", name)
		}
		have = name
	}
	if sddl, ok := strings.CutPrefix(option, "--setsddl="); ok {
		s.SDs[have] = sddl
		return nil
	}
	sddl, ok := s.SDs[have]
	if !ok {
		sddl = everyone
	}
	fmt.Println(sddl)
	return nil
}

func fakeSmbstatus(s *fakeState, _ []string) error {
	fmt.Print("\nService      pid     Machine       Connected at                     Encryption   Signing     \n",
		strings.Repeat("-", 93), "\n")
	if len(s.Users) > 0 {
		fmt.Println(s.Users[0])
	}
	if len(s.Users) > 1 {
		s.Users = s.Users[1:]
	}
	return nil
}

// A fakeSamba is a directory of fakes, and the backend on it.
type fakeSamba struct {
	t    *testing.T
	home string
	*Shares
}

const strict = "D:(A;;0x001200a9;;;S-1-5-21-1-2-3-1000)"

// newFake has a share "data" of smb.conf, with a security descriptor, and "open" with none.
func newFake(t *testing.T, cfg Config) (*fakeSamba, backend.Share) {
	t.Helper()
	f := &fakeSamba{t: t, home: t.TempDir()}
	exe, err := os.Executable()
	require.NoError(t, err)
	for name := range fakes {
		require.NoError(t, os.Symlink(exe, filepath.Join(f.home, name)))
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	f.change(func(s *fakeState) {
		s.Text = "# Global parameters\n[global]\n\tregistry shares = Yes\n\n\n[data]\n\tpath = " + dir +
			"\n\tread only = No\n\twrite list = alice\n\n\n[open]\n\tread only = No\n\tpath = " + dir + "\n"
		s.Registry = map[string]string{}
		s.SDs = map[string]string{"data": strict}
	})
	cfg.SmbConf, cfg.Programs = "/etc/a conf", f.home
	if cfg.Python != "" { // a test of the helper
		cfg.Python = filepath.Join(f.home, cfg.Python)
		require.NoError(t, os.Symlink(exe, cfg.Python))
		conf := filepath.Join(f.home, "smb.conf")
		require.NoError(t, os.WriteFile(conf, nil, 0o600))
		old := time.Now().Add(-time.Hour) // so that what testparm prints can be kept
		require.NoError(t, os.Chtimes(conf, old, old))
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.Shares, err = New(t.Context(), &cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	f.calls()
	return f, backend.Share{Name: "data", Path: dir}
}

func (f *fakeSamba) state() fakeState {
	f.t.Helper()
	var s fakeState
	require.NoError(f.t, load(f.home, "state", &s))
	return s
}

func (f *fakeSamba) change(how func(*fakeState)) {
	f.t.Helper()
	s := f.state()
	how(&s)
	require.NoError(f.t, store(f.home, "state", s))
}

func (f *fakeSamba) fail(faults ...fakeFault) {
	f.t.Helper()
	require.NoError(f.t, store(f.home, "faults", faults))
}

// calls returns what was called since the last time.
func (f *fakeSamba) calls() []fakeCall {
	f.t.Helper()
	var calls []fakeCall
	b, err := os.ReadFile(filepath.Join(f.home, "calls"))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(f.t, err)
		require.NoError(f.t, os.Remove(filepath.Join(f.home, "calls")))
	}
	for line := range strings.Lines(string(b)) {
		var c fakeCall
		require.NoError(f.t, json.Unmarshal([]byte(line), &c))
		calls = append(calls, c)
	}
	return calls
}

// commands returns what was called since the last time, without the options that all have, and X
// for the name of e's share.
func (f *fakeSamba) commands(e backend.Exposure) []string {
	f.t.Helper()
	var list []string
	for _, c := range f.calls() {
		require.Equal(f.t, "--debuglevel=0", c.Args[1])
		require.Equal(f.t, []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			slices.DeleteFunc(c.Env, func(v string) bool {
				return strings.HasPrefix(v, "PWD=") // of os/exec
			}))
		require.Equal(f.t, "/", c.Dir)
		args := c.Args[2:]
		if c.Args[0] == "testparm" {
			require.Equal(f.t, "/etc/a conf", args[len(args)-1])
			args = args[:len(args)-1]
		} else {
			require.Equal(f.t, "--configfile=/etc/a conf", args[0])
			args = args[1:]
		}
		if len(args) > 2 && args[1] == "import" {
			require.NoFileExists(f.t, args[2])
			args[2] = "FILE"
		}
		list = append(list, strings.ReplaceAll(strings.Join(append(c.Args[:1], args...), " "), e.Name, "X"))
	}
	return list
}
