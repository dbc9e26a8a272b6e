package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A delay is what makes a method's work slow; there is at most one at a time.
type delay struct{ release func() }

// end ends the delay.
func (d *delay) end() {
	if d.release != nil {
		d.release()
		d.release = nil
	}
}

// delayOf holds up what a method does on the server: CommitShadowCopySet by freezing the file
// system, ExposeShadowCopySet by locking the registry that shares are made in. Nothing can hold up
// PrepareShadowCopySet: where nothing is written, writing back ends at once.
func (s *conformanceServer) delayOf(op fsrvp.Opnum, d time.Duration) error {
	s.delay.end()
	if d == 0 {
		return nil
	}
	hold := map[fsrvp.Opnum]func() (release func(), err error){
		fsrvp.OpCommitShadowCopySet: s.freeze,
		fsrvp.OpExposeShadowCopySet: s.lockRegistry,
	}[op]
	if hold == nil {
		return errors.ErrUnsupported
	}
	release, err := hold()
	if err != nil {
		return err
	}
	release = sync.OnceFunc(release)
	timer := time.AfterFunc(d+d/4, release)
	s.delay.release = func() {
		timer.Stop()
		release()
	}
	return nil
}

// freeze freezes the server's btrfs. It is thawed by a program that waits for the end of its input,
// so also when this process dies.
func (s *conformanceServer) freeze() (thaw func(), err error) {
	cmd := s.host.Command(context.Background(), "sh", "-c",
		`fsfreeze --freeze "$0" && echo frozen && cat; fsfreeze --unfreeze "$0"`, "/srv/btrfs")
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, err
	}
	thaw = func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait() // had it not thawed, all that follows would hang
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		thaw()
		return nil, fmt.Errorf("fsfreeze: %q: %w", line, err)
	}
	return thaw, nil
}

// lockRegistry takes the lock that whoever changes Samba's registry takes for a transaction.
func (s *conformanceServer) lockRegistry() (unlock func(), err error) {
	f, err := os.OpenFile(s.host.Path("/var/lib/samba/registry.tdb"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	const transactionLock = 8 // the byte, in a tdb
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: transactionLock, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &lock); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
