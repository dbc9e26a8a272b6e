package writer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// A fakeAgent speaks the protocol of qemu-ga, and does what a test wants instead where that is set.
type fakeAgent struct {
	socket string
	l      net.Listener
	wg     sync.WaitGroup
	frozen atomic.Bool
	thaws  atomic.Int32
	// fault returns what goes out in place of the answer to a command, or "" for the answer; "hang"
	// for none at all, until the connection ends, and "close" for the end of the connection.
	fault atomic.Pointer[func(command string) string]
}

func startFakeAgent(t *testing.T) *fakeAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "qga") // a socket's path is short
	require.NoError(t, err)
	a := &fakeAgent{socket: filepath.Join(dir, "s")}
	a.l, err = net.Listen("unix", a.socket)
	require.NoError(t, err)
	a.wg.Go(func() {
		for { // one client at a time, as a chardev
			c, err := a.l.Accept()
			if err != nil {
				return
			}
			a.serve(c)
		}
	})
	t.Cleanup(func() {
		a.l.Close()
		a.wg.Wait()
		os.RemoveAll(dir)
	})
	return a
}

func (a *fakeAgent) setFault(f func(string) string) {
	if f == nil {
		a.fault.Store(nil)
		return
	}
	a.fault.Store(&f)
}

func (a *fakeAgent) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		var req struct {
			Execute   string
			Arguments struct {
				ID          int64
				Mountpoints []string
			}
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "\xff")), &req); err != nil {
			return
		}
		if f := a.fault.Load(); f != nil {
			switch out := (*f)(req.Execute); out {
			case "":
			case "hang":
				_, _ = r.ReadByte()
				return
			case "close":
				return
			default:
				if _, err := c.Write([]byte(out + "\n")); err != nil {
					return
				}
				continue
			}
		}
		var result any
		switch req.Execute {
		case "guest-sync-delimited":
			if _, err := c.Write([]byte("\n{\"return\": 7}\n\xff")); err != nil { // with something stale in front
				return
			}
			result = req.Arguments.ID
		case agentInfo:
			var commands []map[string]any
			for _, name := range []string{agentStatus, agentFreeze, agentFreezeList, agentThaw} {
				commands = append(commands, map[string]any{"name": name, "enabled": true, "success-response": true})
			}
			result = map[string]any{"version": "7.2.0", "supported_commands": commands}
		case agentStatus:
			result = map[bool]string{true: "frozen", false: "thawed"}[a.frozen.Load()]
		case agentFreeze:
			a.frozen.Store(true)
			result = 2
		case agentFreezeList:
			a.frozen.Store(true)
			result = len(req.Arguments.Mountpoints)
		case agentThaw:
			a.thaws.Add(1)
			result = map[bool]int{true: 2}[a.frozen.Swap(false)]
		}
		out, err := json.Marshal(map[string]any{"return": result})
		if err != nil {
			panic(err)
		}
		if _, err := c.Write(append(out, '\n')); err != nil {
			return
		}
	}
}

func (a *fakeAgent) keeper(limit time.Duration, mounts ...string) *keeper {
	return newKeeper(spec{Name: "guest", Limit: limit, ThawLimit: 300 * time.Millisecond,
		GuestAgent: &agentSpec{Socket: a.socket, Mounts: mounts}}, Guard{InProcess: true})
}

func TestGuestAgent(t *testing.T) {
	a := startFakeAgent(t)
	for _, mounts := range [][]string{nil, {"/", "/data"}} {
		w, err := QEMUGuestAgent{Socket: a.socket, Mounts: mounts, Guard: testGuard()}.Writer()
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, w.Prepare(t.Context(), nil))
			require.False(t, a.frozen.Load())
			require.NoError(t, w.Freeze(t.Context()))
			require.True(t, a.frozen.Load())
			require.NoError(t, w.Thaw(t.Context()))
			require.False(t, a.frozen.Load())
		}
	}
	_, err := QEMUGuestAgent{Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "no Socket")
	_, err = QEMUGuestAgent{Socket: a.socket, Mounts: []string{}, Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "Mounts is empty")
	_, err = QEMUGuestAgent{Socket: a.socket}.Writer()
	require.ErrorContains(t, err, "needs a Guard.Command")
}

// TestGuestAgentLies has agents that do something else than they say, say something else than they
// should, or nothing. None may be taken for frozen, none may stay frozen.
func TestGuestAgentLies(t *testing.T) {
	on := func(command, out string) func(string) string {
		return func(c string) string {
			if c == command {
				return out
			}
			return ""
		}
	}
	once := func(command, out string) func(string) string {
		done := false
		return func(c string) string {
			if c == command && !done {
				done = true
				return out
			}
			return ""
		}
	}
	for _, c := range []struct {
		name  string
		fault func(string) string
		want  string
	}{
		{"no agent", on("guest-sync-delimited", "hang"), "does not answer"},
		{"wrong id", on("guest-sync-delimited", "\xff{\"return\": 1}"), "does not answer"},
		{"stale without end", on("guest-sync-delimited", strings.Repeat("x", maxAgentStale+1)), "keeps sending other data"},
		{"no such command", on(agentInfo, `{"return": {"version": "0.1", "supported_commands": [{"name": "guest-fsfreeze-thaw", "enabled": true}]}}`), "does not have the command guest-fsfreeze-status"},
		{"disabled command", on(agentInfo, `{"return": {"version": "0.1", "supported_commands": [{"name": "guest-fsfreeze-status", "enabled": false}]}}`), "or not enabled"},
		{"frozen already", on(agentStatus, `{"return": "frozen"}`), "another program has already frozen the guest"},
		{"no JSON", on(agentFreezeList, "gibberish"), "sent no JSON object"},
		{"wrong type", on(agentFreezeList, `{"return": {"a": 1}}`), "an unexpected result"},
		{"nothing at all", on(agentFreezeList, `{}`), "an unexpected result"},
		{"long message", once(agentFreezeList, strings.Repeat("x", maxAgentMessage+9000)), "longer than"},
		{"two answers", once(agentFreezeList, "{\"return\": 1}\n{\"return\": 1}"), "unexpected bytes"},
		{"other number", on(agentFreezeList, `{"return": 2}`), "froze 2 file systems, not the 1 at /data"},
		{"nothing frozen", on(agentFreezeList, `{"return": 0}`), "froze 0 file systems, not the 1 at /data"},
		{"says frozen, is not", on(agentFreezeList, `{"return": 1}`), "but also that the guest is thawed"},
		{"hook failed", on(agentFreezeList, `{"error": {"class": "GenericError", "desc": "fsfreeze hook has failed with status 1"}}`), `refused guest-fsfreeze-freeze-list: "fsfreeze hook has failed with status 1"`},
		{"unknown status", once(agentStatus, `{"return": "lukewarm"}`), `"lukewarm", neither frozen nor thawed`},
		{"hangs in freeze", on(agentFreezeList, "hang"), "longer than the limit of 200ms"},
		{"breaks in freeze", once(agentFreezeList, "close"), "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := startFakeAgent(t)
			k := a.keeper(200*time.Millisecond, "/data")
			a.setFault(c.fault)
			err := k.prepare(t.Context())
			if err == nil {
				err = k.freeze(t.Context())
			}
			require.ErrorContains(t, err, c.want)
			require.False(t, a.frozen.Load())
			require.NoError(t, k.thaw(t.Context()))
			require.NoError(t, k.abort(t.Context()))
		})
	}
}

// TestGuestAgentThaw has agents fail to thaw, for a while or for good.
func TestGuestAgentThaw(t *testing.T) {
	for name, out := range map[string]string{
		"refuses": `{"error": {"class": "GenericError", "desc": "failed to thaw"}}`, "lies": `{"return": 2}`, "hangs": "hang", "breaks": "close",
	} {
		t.Run(name, func(t *testing.T) {
			a := startFakeAgent(t)
			k := a.keeper(time.Minute)
			require.NoError(t, k.prepare(t.Context()))
			require.NoError(t, k.freeze(t.Context()))
			var calls atomic.Int32
			a.setFault(func(c string) string {
				if c == agentThaw && calls.Add(1) <= 2 {
					return out
				}
				return ""
			})
			require.NoError(t, k.thaw(t.Context()))
			require.False(t, a.frozen.Load())
			require.EqualValues(t, 3, calls.Load())
		})
		t.Run(name+" for longer than the program waits", func(t *testing.T) {
			t.Parallel()
			a := startFakeAgent(t)
			k := a.keeper(time.Minute)
			require.NoError(t, k.prepare(t.Context()))
			require.NoError(t, k.freeze(t.Context()))
			a.setFault(func(c string) string {
				if c == agentThaw {
					return out
				}
				return ""
			})
			ctx, cancel := timeoutContext(t, time.Second)
			defer cancel()
			err := k.thaw(ctx)
			require.ErrorContains(t, err, "goes on trying")
			require.ErrorContains(t, err, "guest's agent")
			l, _ := k.current()
			require.NotNil(t, l)
			require.NoError(t, k.abort(t.Context()))
			a.setFault(nil)
			<-l.gone // which tries until it works
			require.False(t, a.frozen.Load())
		})
	}
	t.Run("thawed by itself", func(t *testing.T) { // as a Windows guest after 10 s
		a := startFakeAgent(t)
		k := a.keeper(time.Minute)
		require.NoError(t, k.freeze(t.Context()))
		a.frozen.Store(false)
		require.ErrorIs(t, k.thaw(t.Context()), provider.ErrNotHeld)
		require.EqualValues(t, 1, a.thaws.Load(), "it may have lied")
	})
	t.Run("answer lost", func(t *testing.T) {
		a := startFakeAgent(t)
		k := a.keeper(time.Minute)
		require.NoError(t, k.freeze(t.Context()))
		var once sync.Once
		a.setFault(func(c string) (out string) {
			if c == agentThaw {
				once.Do(func() { a.frozen.Store(false); out = "close" })
			}
			return out
		})
		require.NoError(t, k.thaw(t.Context()))
	})
	t.Run("freeze that failed", func(t *testing.T) {
		a := startFakeAgent(t)
		k := a.keeper(time.Minute)
		require.NoError(t, k.prepare(t.Context()))
		a.setFault(func(c string) string {
			if c == agentFreeze {
				a.frozen.Store(true)
				return `{"error": {"class": "GenericError", "desc": "half of them"}}`
			}
			return ""
		})
		require.ErrorContains(t, k.freeze(t.Context()), "half of them")
		require.False(t, a.frozen.Load(), "undone")
		require.NoError(t, k.thaw(t.Context()))
	})
	t.Run("thaw while the freeze hangs", func(t *testing.T) {
		a := startFakeAgent(t)
		k := a.keeper(time.Minute)
		require.NoError(t, k.prepare(t.Context()))
		entered := make(chan struct{})
		var once sync.Once
		a.setFault(func(c string) string {
			if c == agentFreeze {
				once.Do(func() { close(entered) })
				return "hang"
			}
			return ""
		})
		failed := make(chan error, 1)
		go func() { failed <- k.freeze(t.Context()) }()
		<-entered
		require.NoError(t, k.thaw(t.Context()))
		require.ErrorContains(t, <-failed, "a thaw was requested")
		require.EqualValues(t, 1, a.thaws.Load())
	})
}

// FuzzAgentConn has an agent answer with anything.
func FuzzAgentConn(f *testing.F) {
	f.Add([]byte("{\"return\": 1}\n"))
	f.Add([]byte("{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n"))
	f.Add([]byte("{\"return\": {}, \"error\": null}\n{\"return\": \"frozen\"}\n"))
	f.Add([]byte("\xff\n\x00"))
	f.Fuzz(func(t *testing.T, out []byte) {
		us, them := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := bufio.NewReader(them)
			for range 2 {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				if _, err := them.Write(out); err != nil {
					return
				}
			}
			them.Close()
		}()
		c := &agentConn{conn: us, r: bufio.NewReader(us)}
		var n int64
		if c.execute(t.Context(), agentThaw, nil, &n) == nil {
			var s string
			_ = c.execute(t.Context(), agentStatus, nil, &s)
		}
		c.close()
		them.Close()
		<-done
	})
}

var errCommand = errors.New("command")

func TestAgentError(t *testing.T) {
	err := fmt.Errorf("%w: %w", errCommand, &AgentError{Command: "c", Class: "k", Desc: strings.Repeat("long ", 1000)})
	var a *AgentError
	require.ErrorAs(t, err, &a)
	require.Less(t, len(err.Error()), 700, "what a guest sends does not fill logs")
}
