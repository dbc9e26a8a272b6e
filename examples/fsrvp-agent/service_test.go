//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A service is the program at work with a configuration file, in this process.
type service struct {
	*site
	conf    string
	hangups chan os.Signal
	log     *eventLog
	port    string
	metrics string
	stop    func() error
}

// startService runs the program with a configuration, and metrics.
func startService(t *testing.T, s *site, conf string, flags ...string) *service {
	t.Helper()
	sv := &service{site: s, conf: conf, hangups: make(chan os.Signal), log: newEventLog()}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	p := &process{stdout: w, stderr: sv.log, hangups: func() (<-chan os.Signal, func()) { return sv.hangups, func() {} }}
	ended := make(chan error, 1)
	go func() {
		err := p.run(ctx, append([]string{"-config", conf, "-metrics", "127.0.0.1:0"}, flags...))
		w.CloseWithError(errors.Join(io.ErrUnexpectedEOF, err))
		ended <- err
	}()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	sv.stop = stop
	t.Cleanup(func() { require.NoError(t, stop()) })
	lines := bufio.NewReader(r)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "listening metrics %s", &sv.metrics)
	require.NoError(t, err)
	line, err = lines.ReadString('\n')
	require.NoError(t, err)
	_, sv.port, err = net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening tcp:")))
	require.NoError(t, err)
	return sv
}

// dial is a client's connection, with a password.
func (s *service) dial(t *testing.T, password string) (*fsrvp.Client, error) {
	t.Helper()
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: password})
	require.NoError(t, err)
	c, err := fsrvp.Dial(t.Context(), "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: s.port}, Auth: auth})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	// NTLM's last token has no answer: the first call finds out.
	if _, err := c.GetSupportedVersion(t.Context()); !errors.Is(err, fsrvp.ErrAccessDenied) {
		return c, err
	}
	return c, nil
}

// get fetches a page of the service, with its status.
func (s *service) get(t *testing.T, page string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + s.metrics + page)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// families are the metrics of the service.
func (s *service) families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	status, text := s.get(t, "/metrics")
	require.Equal(t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err)
	return families
}

// value is that of one metric: a counter's, a gauge's, or how much a histogram has counted. Labels
// are "name=value".
func (s *service) value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	f := s.families(t)[name]
	require.NotNil(t, f, name)
	for _, m := range f.Metric {
		have := map[string]bool{}
		for _, l := range m.Label {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		all := len(have) == len(labels)
		for _, l := range labels {
			all = all && have[l]
		}
		if all {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	require.Fail(t, "no such metric", "%s %v", name, labels)
	return 0
}

// hangup sends SIGHUP and waits for what the log says of it.
func (s *service) hangup(t *testing.T, want string) string {
	t.Helper()
	from := s.log.size()
	s.hangups <- syscall.SIGHUP
	return s.log.wait(t, from, want)
}

// An eventLog is a log that one can wait for.
type eventLog struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func newEventLog() *eventLog { return &eventLog{more: make(chan struct{})} }

func (l *eventLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

func (l *eventLog) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String(), l.more
}

func (l *eventLog) size() int {
	text, _ := l.read()
	return len(text)
}

// wait returns what has been logged from a place on, once it has a text.
func (l *eventLog) wait(t *testing.T, from int, want string) string {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		text, more := l.read()
		if strings.Contains(text[from:], want) {
			return text[from:]
		}
		select {
		case <-more:
		case <-late:
			require.Fail(t, "not logged", "%q in %s", want, text[from:])
		}
	}
}

// TestReload changes the configuration of an agent at work.
func TestReload(t *testing.T) {
	s := newSite(t)
	conf := s.config(t, good)
	sv := startService(t, s, conf)
	may := func() bool {
		c, err := sv.dial(t, "secret")
		require.NoError(t, err)
		_, err = c.GetSupportedVersion(t.Context())
		if err != nil {
			require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
		}
		return err == nil
	}
	require.True(t, may())

	// The allow list.
	s.config(t, strings.Replace(good, `TEST\backup`, `TEST\other`, 1))
	require.Contains(t, sv.hangup(t, "was read again"), `"taken over"=allow all=true`)
	require.False(t, may())

	// A mistake: nothing changes, and /healthz says so until it is mended.
	s.config(t, strings.Replace(good, "snapshots = copy", "snapshots = cow", 1))
	require.Contains(t, sv.hangup(t, "mistake="), conf+":8: snapshots is")
	require.False(t, may())
	status, text := sv.get(t, "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, conf+":8: snapshots is")

	// What can be taken over is, and the rest is refused with the place and the reason.
	s.config(t, strings.Replace(good, "$D/state", "$D/elsewhere", 1)+"log-level = debug\n")
	logged := sv.hangup(t, "was read again")
	require.Contains(t, logged, conf+":5: state")
	require.Contains(t, logged, "read at the start alone; restart the agent")
	require.Contains(t, logged, `"taken over"="allow log-level" all=false`)
	require.True(t, may())
	sv.log.wait(t, 0, "level=DEBUG")
	require.NoDirExists(t, s.path("elsewhere"))
	status, text = sv.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status, text)

	// Accounts in another file.
	s.write(t, "users2", fmt.Sprintf("TEST\\backup\t%x\n", ntlm.NTHash("changed")), 0o600)
	s.config(t, strings.Replace(good, "$D/users", "$D/users2", 1))
	sv.hangup(t, "was read again")
	_, err := sv.dial(t, "secret")
	require.Error(t, err)
	_, err = sv.dial(t, "changed")
	require.NoError(t, err)

	// A mechanism comes and goes with a restart alone.
	s.config(t, strings.Replace(good, "ntlm-users = $D/users", "ntlm-winbind = yes", 1))
	require.Contains(t, sv.hangup(t, "was read again"), "a mechanism of security comes and goes with a restart")

	require.Equal(t, 4.0, sv.value(t, "fsrvp_reloads_total", "result=success"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_reloads_total", "result=failure"))
}

// TestHangupWithoutFile: SIGHUP neither ends an agent without a configuration file nor changes it.
func TestHangupWithoutFile(t *testing.T) {
	s := newSite(t)
	hangups, log := make(chan os.Signal), newEventLog()
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{stdout: io.Discard, stderr: log, hangups: func() (<-chan os.Signal, func()) { return hangups, func() {} }}
	ended := make(chan error, 1)
	go func() {
		ended <- p.run(ctx, []string{"-listen", "tcp:127.0.0.1:0", "-share", "data=" + s.path("data"), "-expose", "directory:" + s.path("exposed"),
			"-state", s.path("state"), "-ntlm-users", s.path("users"), "-snapshots", "copy"})
	}()
	for range 2 {
		select {
		case hangups <- syscall.SIGHUP:
		case err := <-ended:
			require.FailNow(t, "the agent has ended", "%v", err)
		}
	}
	log.wait(t, 0, "no configuration file to read again")
	cancel()
	require.NoError(t, <-ended)
}

// TestMetrics has the numbers, and /healthz, agree with what a client did.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	sv := startService(t, s, s.config(t, good))
	status, text := sv.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok\n", text)
	status, _ = sv.get(t, "/other")
	require.Equal(t, http.StatusNotFound, status)

	_, err := sv.dial(t, "wrong")
	require.Error(t, err)
	c, err := sv.dial(t, "secret")
	require.NoError(t, err)
	const share = `\\localhost\data`
	ctx := t.Context()
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextNASRollback))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.Equal(t, 1.0, sv.value(t, "fsrvp_sets", "status=Added"))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_snapshots"))
	require.Equal(t, 0.0, sv.value(t, "fsrvp_exposed_shares"))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	require.Error(t, c.AbortShadowCopySet(ctx, set))

	require.Equal(t, 1.0, sv.value(t, "fsrvp_calls_total", "method=SetContext", "status=OK"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_calls_total", "method=AbortShadowCopySet", "status="+fsrvp.ErrBadState.Name()))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_call_duration_seconds", "method=CommitShadowCopySet"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_step_duration_seconds", "step=create"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_step_duration_seconds", "step=expose"))
	require.NotZero(t, sv.value(t, "fsrvp_store_write_duration_seconds"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_sets", "status=Recovered"))
	require.Equal(t, 0.0, sv.value(t, "fsrvp_sets", "status=Added"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_exposed_shares"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_sets_finished_total", "outcome=complete"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_refused_total", "reason=authentication"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_authentication_failures_total", "mechanism=ntlm"))
	require.Equal(t, 0.0, sv.value(t, "fsrvp_problems"))
	require.NotZero(t, sv.value(t, "go_goroutines"))

	// What cannot be deleted, and accounts that cannot be read, are problems until they are mended.
	exposed := filepath.Join(s.dir, "exposed")
	require.NoError(t, os.Rename(exposed, exposed+".away"))
	require.NoError(t, os.WriteFile(exposed, nil, 0o600))
	require.Error(t, c.DeleteShareMapping(ctx, set, id, share))
	require.NoError(t, os.Rename(s.path("users"), s.path("users.away")))
	status, text = sv.get(t, "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Len(t, strings.Split(strings.TrimSpace(text), "\n"), 2, text)
	require.Contains(t, text, set.String())
	require.Contains(t, text, "there is no file "+s.path("users"))
	require.Equal(t, 2.0, sv.value(t, "fsrvp_problems"))
	require.Equal(t, 1.0, sv.value(t, "fsrvp_step_failures_total", "step=unexpose"))
	require.NoError(t, os.Remove(exposed))
	require.NoError(t, os.Rename(exposed+".away", exposed))
	require.NoError(t, os.Rename(s.path("users.away"), s.path("users")))
	require.NoError(t, c.DeleteShareMapping(ctx, set, id, share))
	status, text = sv.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, 1.0, sv.value(t, "fsrvp_sets_finished_total", "outcome=deleted"))
	require.Equal(t, 0.0, sv.value(t, "fsrvp_snapshots"))

	s.config(t, strings.Replace(good, `TEST\backup`, `TEST\other`, 1))
	sv.hangup(t, "was read again")
	_, err = c.GetSupportedVersion(ctx)
	require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
	require.Equal(t, 1.0, sv.value(t, "fsrvp_refused_total", "reason=access"))
}

// TestReloadKeytab: the keys of a keytab that has changed are taken without a signal, another
// keytab with SIGHUP, and one that is none is refused while the old one stays.
func TestReloadKeytab(t *testing.T) {
	s := newSite(t)
	realm := krb5test.NewRealm("EXAMPLE.COM", 0)
	realm.AddUser("backup")
	write := func(name string) {
		realm.AddService("host/localhost") // a new key
		b, err := realm.Keytab().AppendBinary(nil)
		require.NoError(t, err)
		s.write(t, name, string(b), 0o600)
	}
	text := strings.NewReplacer("ntlm-users = $D/users", "keytab = $D/one.keytab", `TEST\backup`, "backup@EXAMPLE.COM").Replace(good)
	write("one.keytab")
	sv := startService(t, s, s.config(t, text))
	may := func() error {
		c, err := fsrvp.Dial(t.Context(), "localhost", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: sv.port}, Auth: realm.Initiator("backup")})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.GetSupportedVersion(t.Context())
		return err
	}
	require.NoError(t, may())
	write("one.keytab")
	require.NoError(t, may())
	write("two.keytab")
	require.Error(t, may())
	s.config(t, strings.Replace(text, "one.keytab", "damaged", 1))
	require.Contains(t, sv.hangup(t, "mistake="), "klist -k")
	require.Error(t, may())
	s.config(t, strings.Replace(text, "one.keytab", "two.keytab", 1)+"require-pac = yes\n")
	require.Contains(t, sv.hangup(t, "was read again"), `"taken over"="keytab require-pac" all=true`)
	require.NoError(t, may())
}
