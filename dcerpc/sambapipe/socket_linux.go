package sambapipe

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// checkTime is the interval at which the socket is checked even without an event from inotify.
	checkTime = 2 * time.Second
	// retakeTime is the shortest time between two attempts to take the socket back.
	retakeTime = 50 * time.Millisecond
	// missingTime is the time that the socket must be missing before a new one is made:
	// samba-dcerpcd removes it and makes its own, and if it cannot do that, it may serve no pipe at
	// all.
	missingTime = 300 * time.Millisecond
	// drainTime is the time that a displaced socket goes on for clients that connected before.
	drainTime = 100 * time.Millisecond
)

// A socket is the pipe's Unix socket, which samba-dcerpcd may unlink or replace at any time.
type socket struct {
	path  string // <dir>/np/<pipe>
	log   *slog.Logger
	serve func(*net.UnixConn)
	wg    *sync.WaitGroup
	lock  *os.File
	watch *watch
	done  chan struct{} // closed by close
	ended chan struct{} // closed by keep

	l    *net.UnixListener // belongs to keep, once that runs
	mine os.FileInfo       // identifies l's file
}

// openSocket makes the socket, passes each connection to serve in a goroutine that wg counts, and
// keeps the socket in its place.
func openSocket(cfg *Config, serve func(*net.UnixConn), wg *sync.WaitGroup) (_ *socket, err error) {
	name := strings.ToLower(cfg.Pipe) // as smbd does
	if name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return nil, fmt.Errorf("%q is not the name of a pipe", cfg.Pipe)
	}
	s := &socket{
		path: filepath.Join(cfg.Dir, "np", name), log: cfg.Logger.With(slog.String("pipe", cfg.Pipe)),
		serve: serve, wg: wg, done: make(chan struct{}), ended: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	if s.lock, err = lockPipe(filepath.Join(cfg.Dir, name+".lock")); err != nil {
		return nil, err
	}
	if s.watch, err = newWatch(filepath.Dir(s.path)); err != nil {
		return nil, err
	}
	if err := s.bind(); err != nil {
		return nil, err
	}
	wg.Go(s.keep)
	return s, nil
}

// close ends everything but the connections, and removes the socket if it is still ours.
func (s *socket) close() error {
	close(s.done)
	<-s.ended
	var err error
	if mine, _ := s.whose(); mine {
		err = os.Remove(s.path)
	}
	return errors.Join(err, s.release())
}

func (s *socket) release() error {
	var errs []error
	if s.l != nil {
		errs = append(errs, s.l.Close())
	}
	if s.watch != nil {
		errs = append(errs, s.watch.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// makeDirs makes the directories, and checks whether smbd will accept them: with another mode or
// owner of np, smbd does not start, and a running one loses all pipes.
func (s *socket) makeDirs() error {
	np := filepath.Dir(s.path)
	if err := os.MkdirAll(filepath.Dir(np), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(np, 0o700)
	if err == nil {
		return os.Chmod(np, 0o700) // whatever the umask
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Lstat(np)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s must be a directory of user %d with mode 0700 for smbd, but is %v of user %d", np,
			os.Geteuid(), fi.Mode(), st.Uid)
	}
	return nil
}

// lockPipe prevents two Listeners from taking the socket from each other for ever.
func lockPipe(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another server has the pipe: %w (lock %s)", os.ErrExist, path)
		}
		return nil, err
	}
	return f, nil
}

// bind puts our socket at the path atomically: smbd finds the old one or the new one.
func (s *socket) bind() error {
	tmp := filepath.Join(filepath.Dir(s.path), ".go-fsrvp."+strconv.Itoa(os.Getpid()))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	mine, err := os.Lstat(tmp)
	if err == nil {
		err = os.Rename(tmp, s.path)
	}
	if err != nil {
		l.Close()
		return errors.Join(err, os.Remove(tmp))
	}
	if old := s.l; old != nil {
		s.wg.Go(func() { drain(old) })
	}
	s.l, s.mine = l, mine
	s.wg.Go(func() { s.accept(l) })
	return nil
}

// drain closes a displaced socket after serving the clients that had already connected to it.
func drain(l *net.UnixListener) {
	if l.SetDeadline(time.Now().Add(drainTime)) != nil {
		l.Close()
	}
}

// accept serves connections until l is closed, or its deadline passes.
func (s *socket) accept(l *net.UnixListener) {
	defer l.Close()
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			s.wg.Go(func() { s.serve(c) })
		case errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded):
			return
		default:
			s.log.Warn("cannot accept a connection", slog.Any("err", err)) // usually for lack of file descriptors
			select {
			case <-s.done:
				return
			case <-time.After(retakeTime):
			}
		}
	}
}

// whose reports whether the path is our socket, and whether it is missing.
func (s *socket) whose() (mine, missing bool) {
	fi, err := os.Lstat(s.path)
	return err == nil && os.SameFile(fi, s.mine), errors.Is(err, os.ErrNotExist)
}

// keep takes the socket back whenever it is no longer ours.
func (s *socket) keep() {
	defer close(s.ended)
	tick := time.NewTicker(checkTime)
	defer tick.Stop()
	var missingSince time.Time
	var wait <-chan time.Time
	failed := false
	for {
		select {
		case <-s.done:
			return
		case <-s.watch.changed:
		case <-tick.C:
		case <-wait:
		}
		mine, missing := s.whose()
		switch {
		case mine:
			missingSince, wait = time.Time{}, nil
			continue
		case missing && missingSince.IsZero():
			missingSince, wait = time.Now(), time.After(missingTime)
			continue
		case missing && time.Since(missingSince) < missingTime:
			continue
		}
		missingSince = time.Time{}
		err := s.retake()
		switch {
		case err == nil:
			s.log.Warn("another server had taken the pipe's socket, or it was removed; taken back",
				slog.String("path", s.path))
		case !failed: // log it once, not at every attempt
			s.log.Error("the pipe's socket is lost and cannot be taken back yet", slog.String("path", s.path),
				slog.Any("err", err))
		}
		failed = err != nil
		wait = nil
		select {
		case <-s.done:
			return
		case <-time.After(retakeTime):
		}
	}
}

func (s *socket) retake() error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	if err := s.watch.add(filepath.Dir(s.path)); err != nil { // perhaps another directory
		return err
	}
	return s.bind()
}

// peerOf returns the process at the other end. Its ID is 0 if this process cannot see it.
func peerOf(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return cred, nil
}
