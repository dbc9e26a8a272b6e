package writer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// QEMUGuestAgent is a virtual machine whose file systems are frozen by qemu-ga, the agent in the
// machine. The agent runs the machine's own hooks (qemu-ga -F) before and after; if a hook fails,
// so does the freeze.
//
// If libvirt manages the machine, it holds the socket: use [Libvirt] then.
type QEMUGuestAgent struct {
	// Socket is the path of the Unix socket: of QEMU's chardev for org.qemu.guest_agent.0, or
	// qemu-ga's own.
	Socket string
	// Mounts are mount points in the guest in the spelling of its /proc/self/mounts. Nil means all
	// local file systems.
	Mounts []string
	// Limit is the longest time from freeze to thaw. Zero means [DefaultLimit]. A Windows guest has
	// its own limit of 10 s.
	Limit time.Duration
	// Guard thaws when this program cannot.
	Guard Guard
}

type agentSpec struct {
	Socket string   `json:"socket"`
	Mounts []string `json:"mounts,omitempty"`
}

// Writer returns the writer, which serves one run at a time.
func (q QEMUGuestAgent) Writer() (provider.Writer, error) {
	if q.Socket == "" {
		return provider.Writer{}, errors.New("writer: QEMUGuestAgent has no Socket")
	}
	if q.Mounts != nil && len(q.Mounts) == 0 {
		return provider.Writer{}, errors.New("writer: QEMUGuestAgent.Mounts is empty; nil means all")
	}
	if err := q.Guard.check("QEMUGuestAgent"); err != nil {
		return provider.Writer{}, err
	}
	socket, err := filepath.Abs(q.Socket)
	if err != nil {
		return provider.Writer{}, fmt.Errorf("writer: QEMUGuestAgent: %w", err)
	}
	s := &agentSpec{Socket: socket, Mounts: slices.Clone(q.Mounts)}
	return newKeeper(spec{Name: "guest at " + socket, Limit: q.Limit, GuestAgent: s}, q.Guard).writer(), nil
}

// guestAgent is QEMUGuestAgent in a guard.
type guestAgent struct {
	spec  agentSpec
	conn  *agentConn // nil before it is made
	late  int        // the number of consecutive answers that were late
	asked bool       // a freeze was sent, and no later thaw is known to have worked
	held  bool       // the freeze worked, and no thaw was sent since
	lost  bool       // the freeze had ended before the thaw was sent
}

// Commands of qemu-ga (qapi/qga schema, QEMU 7.2).
const (
	agentInfo       = "guest-info"
	agentStatus     = "guest-fsfreeze-status"
	agentFreeze     = "guest-fsfreeze-freeze"
	agentFreezeList = "guest-fsfreeze-freeze-list"
	agentThaw       = "guest-fsfreeze-thaw"
)

func (a *guestAgent) freezeCommand() string {
	if a.spec.Mounts != nil {
		return agentFreezeList
	}
	return agentFreeze
}

// open checks that the agent answers, has the needed commands, and that the guest is not frozen.
func (a *guestAgent) open(ctx context.Context) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	var info struct {
		Version  string `json:"version"`
		Commands []struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
		} `json:"supported_commands"`
	}
	if err := a.execute(ctx, agentInfo, nil, &info); err != nil {
		return err
	}
	for _, need := range []string{agentStatus, a.freezeCommand(), agentThaw} {
		if !slices.ContainsFunc(info.Commands, func(c struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
		}) bool {
			return c.Name == need && c.Enabled
		}) {
			return fmt.Errorf("the guest's agent (version %.40q) does not have the command %s, or not "+
				"enabled: see its configuration and --block-rpcs", info.Version, need)
		}
	}
	status, err := a.status(ctx)
	if err == nil && status != "thawed" {
		err = fmt.Errorf("another program has already %s the guest", status)
	}
	return err
}

func (a *guestAgent) freeze(ctx context.Context) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	var args any
	if a.spec.Mounts != nil {
		args = map[string][]string{"mountpoints": a.spec.Mounts}
	}
	var n int64
	a.asked = true
	if err := a.execute(ctx, a.freezeCommand(), args, &n); err != nil {
		return err
	}
	// The agent skips mount points that it does not find.
	switch {
	case a.spec.Mounts != nil && n != int64(len(a.spec.Mounts)):
		return fmt.Errorf("the guest's agent froze %d file systems, not the %d at %s; its /proc/self/mounts "+
			"has the names that it knows", n, len(a.spec.Mounts), strings.Join(a.spec.Mounts, ", "))
	case n <= 0:
		return errors.New("the guest's agent has no file system that it can freeze")
	}
	status, err := a.status(ctx)
	if err == nil && status != "frozen" {
		err = fmt.Errorf("the guest's agent says that it froze %d file systems, but also that the guest is %s",
			n, status)
	}
	a.held = err == nil
	return err
}

// thaw succeeds only when the agent says that the guest is thawed.
func (a *guestAgent) thaw(ctx context.Context) error {
	if !a.asked {
		return nil
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	before, err := a.status(ctx)
	if err != nil {
		return err
	}
	if a.held {
		a.held, a.lost = false, before != "frozen"
	}
	var n int64
	if err := a.execute(ctx, agentThaw, nil, &n); err != nil {
		return err
	}
	after, err := a.status(ctx)
	if err == nil && after != "thawed" {
		err = fmt.Errorf("the guest's agent has thawed %d file systems, but says that the guest is %s", n, after)
	}
	if err != nil {
		return err
	}
	lost := a.lost
	a.asked, a.lost = false, false
	if lost {
		return fmt.Errorf("the guest was no longer frozen when it was asked to thaw: %w", provider.ErrNotHeld)
	}
	return nil
}

func (a *guestAgent) status(ctx context.Context) (string, error) {
	var status string
	if err := a.execute(ctx, agentStatus, nil, &status); err != nil {
		return "", err
	}
	if status != "frozen" && status != "thawed" {
		return "", fmt.Errorf("the guest's agent says that the guest is %.40q, neither frozen nor thawed", status)
	}
	return status, nil
}

// maxOutOfStep is the number of consecutive late answers after which a new connection is tried.
const maxOutOfStep = 5

// connect makes a connection and synchronizes it.
func (a *guestAgent) connect(ctx context.Context) error {
	if a.late >= maxOutOfStep {
		a.close()
	}
	if a.conn == nil {
		c, err := dialAgent(ctx, a.spec.Socket)
		if err != nil {
			return err
		}
		a.conn = c
	}
	if err := a.keep(a.conn.sync(ctx)); err != nil {
		return fmt.Errorf("the guest's agent at %s does not answer; check that it runs in the guest and that no "+
			"other program (libvirt) has the socket: %w", a.spec.Socket, err)
	}
	return nil
}

// execute runs a command.
func (a *guestAgent) execute(ctx context.Context, command string, args, result any) error {
	if a.conn == nil {
		return errors.New("no connection to the guest's agent")
	}
	return a.keep(a.conn.execute(ctx, command, args, result))
}

// keep closes the connection if err, which it returns, has broken it.
func (a *guestAgent) keep(err error) error {
	refused := (*AgentError)(nil)
	switch {
	case err == nil || errors.As(err, &refused):
		a.late = 0
	case a.conn.outOfStep && errors.Is(err, os.ErrDeadlineExceeded):
		a.late++
	default:
		a.close()
	}
	return err
}

func (a *guestAgent) adopt() { a.asked = true }

func (a *guestAgent) close() {
	if a.conn != nil {
		a.conn.close()
		a.conn, a.late = nil, 0
	}
}
