package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// The values of -files and -previous-versions that are no commands.
const (
	bySMB = "smb"
	none  = "none"
)

// smbTime bounds one access to a file.
const smbTime = time.Minute

// maxFile is the number of bytes read of a file.
const maxFile = 1 << 20

// hooks fills in the target's functions to inspect and delay the server. The transport is that of
// the calls.
func (o *options) hooks(ctx context.Context, transport dcerpc.Dialer) error {
	t := &o.target
	var files fsrvptest.Files // by SMB
	var versions func(ctx context.Context, share string) (int, error)
	switch d := transport.(type) {
	case *smbpipe.Dialer:
		shares := smbShares{ctx, d, o.server}
		files, versions = shares, shares.previousVersions
	case *smbpipe.SystemDialer:
		files = systemShares(o.server)
	}
	switch o.files {
	case none:
	case "":
		t.Files = files
	case bySMB:
		if t.Files = files; files == nil {
			return errors.New("-files smb needs -transport smb")
		}
	default:
		t.Files = filesCommand{ctx, command(o.files)}
	}
	switch o.versions {
	case none:
	case "":
		t.PreviousVersions = versions
	case bySMB:
		if t.PreviousVersions = versions; versions == nil {
			return errors.New("-previous-versions smb needs -transport smb, and credentials")
		}
	default:
		t.PreviousVersions = func(ctx context.Context, share string) (int, error) {
			n, err := command(o.versions).numbers(ctx, 1, share)
			if err != nil {
				return 0, err
			}
			return n[0], nil
		}
	}
	if o.held != "" {
		t.Held = func(ctx context.Context) (snapshots, shares int, err error) {
			n, err := command(o.held).numbers(ctx, 2)
			if err != nil {
				return 0, 0, err
			}
			return n[0], n[1], nil
		}
	}
	if o.rights != "" {
		t.Rights = rightsCommand(o.rights)
	}
	if o.freeze != "" {
		t.Delay = command(o.freeze).delay
	}
	if o.restart != "" {
		t.Restart = command(o.restart).run
	}
	if o.reset != "" {
		t.Reset = command(o.reset).run
	}
	return nil
}

// A command is a line of a shell that the user has given.
type command string

// make returns the command with further arguments.
func (c command) make(ctx context.Context, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if runtime.GOOS == "windows" {
		cmd = exec.CommandContext(ctx, "cmd", append([]string{"/d", "/c", string(c)}, args...)...)
	} else {
		cmd = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", string(c) + ` "$@"`, "sh"}, args...)...)
	}
	cmd.WaitDelay = time.Second // in case it leaves a process that holds its output
	return cmd
}

// output runs the command and returns what it prints. The error contains its standard error.
func (c command) output(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	cmd := c.make(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(append([]string{string(c)}, args...), " "), err,
			bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

func (c command) run(ctx context.Context) error {
	_, err := c.output(ctx, nil)
	return err
}

// numbers runs the command, which prints n numbers.
func (c command) numbers(ctx context.Context, n int, args ...string) ([]int, error) {
	out, err := c.output(ctx, nil, args...)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(out))
	numbers := make([]int, len(fields))
	for i, f := range fields {
		if numbers[i], err = strconv.Atoi(f); err != nil {
			break
		}
	}
	if err != nil || len(numbers) != n {
		return nil, fmt.Errorf("%s printed %q; it must print %d numbers", c, out, n)
	}
	return numbers, nil
}

// cannotFreeze is the exit status of a -freeze command that cannot hold up the method.
const cannotFreeze = 3

// delay delays a method.
func (c command) delay(op fsrvp.Opnum, d time.Duration) error {
	name := map[fsrvp.Opnum]string{
		fsrvp.OpPrepareShadowCopySet: "prepare", fsrvp.OpCommitShadowCopySet: "commit", fsrvp.OpExposeShadowCopySet: "expose",
	}[op]
	if name == "" {
		return errors.ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(context.Background(), smbTime)
	defer cancel()
	_, err := c.output(ctx, nil, name, strconv.FormatInt(d.Milliseconds(), 10))
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == cannotFreeze {
		return errors.ErrUnsupported
	}
	return err
}

// filesCommand implements fsrvptest.Files with a command.
type filesCommand struct {
	ctx context.Context
	command
}

func (f filesCommand) ReadFile(share, name string) ([]byte, error) {
	return f.output(f.ctx, nil, "read", share, name)
}

func (f filesCommand) WriteFile(share, name string, data []byte) error {
	_, err := f.output(f.ctx, data, "write", share, name)
	return err
}

// rightsCommand implements fsrvptest.Rights with a command.
type rightsCommand command

func (r rightsCommand) Mark(ctx context.Context, share, mark string) error {
	_, err := command(r).output(ctx, nil, "mark", share, mark)
	return err
}

func (r rightsCommand) Unmark(ctx context.Context, share, mark string) error {
	_, err := command(r).output(ctx, nil, "unmark", share, mark)
	return err
}

func (r rightsCommand) Marks(ctx context.Context, share string) ([]string, error) {
	out, err := command(r).output(ctx, nil, "marks", share)
	return strings.Fields(string(out)), err
}

// smbShares implements fsrvptest.Files over SMB, with the account that takes the shadow copies.
type smbShares struct {
	ctx    context.Context
	dialer *smbpipe.Dialer
	server string
}

// open connects to a share of the server, for a short time.
func (s smbShares) open(ctx context.Context, share string, use func(ctx context.Context, t *smb2.Tree) error) error {
	ctx, cancel := context.WithTimeout(ctx, smbTime)
	defer cancel()
	t, err := s.dialer.OpenTree(ctx, `\\`+s.server+`\`+share)
	if err != nil {
		return err
	}
	return errors.Join(use(ctx, t), t.Close())
}

func (s smbShares) ReadFile(share, name string) (data []byte, err error) {
	err = s.open(s.ctx, share, func(ctx context.Context, t *smb2.Tree) (err error) {
		data, err = t.ReadFile(ctx, name, &smb2.OpenOptions{NoBackupIntent: true}, maxFile)
		return err
	})
	return data, err
}

func (s smbShares) WriteFile(share, name string, data []byte) error {
	return s.open(s.ctx, share, func(ctx context.Context, t *smb2.Tree) error { return t.WriteFile(ctx, name, data) })
}

// systemShares implements fsrvptest.Files for a server with the system's SMB client.
type systemShares string

func (s systemShares) path(share, name string) string {
	return `\\` + string(s) + `\` + share + `\` + name
}

func (s systemShares) ReadFile(share, name string) ([]byte, error) {
	return os.ReadFile(s.path(share, name))
}

func (s systemShares) WriteFile(share, name string, data []byte) error {
	return os.WriteFile(s.path(share, name), data, 0o644)
}

// previousVersions counts the snapshots that the server shows for a share.
func (s smbShares) previousVersions(ctx context.Context, share string) (n int, err error) {
	err = s.open(ctx, share, func(ctx context.Context, t *smb2.Tree) error {
		f, err := t.Open(ctx, "", &smb2.OpenOptions{NoBackupIntent: true})
		if err != nil {
			return err
		}
		out, err := f.Control(ctx, smb2.FSCTLEnumerateSnapshots, nil)
		if err == nil && len(out) < 4 {
			err = fmt.Errorf("%w: SRV_SNAPSHOT_ARRAY of %d bytes", smb2.ErrMessage, len(out))
		}
		if err == nil {
			n = int(binary.LittleEndian.Uint32(out)) // NumberOfSnapShots
		}
		return errors.Join(err, f.Close(ctx))
	})
	return n, err
}
