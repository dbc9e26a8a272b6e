package sambapipe

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A watch reports events in a directory, with inotify(7).
type watch struct {
	changed chan struct{} // has one element if there was an event since the last look
	f       *os.File
	ended   chan struct{}
}

func newWatch(dir string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &watch{
		changed: make(chan struct{}, 1),
		f:       os.NewFile(uintptr(fd), "inotify"), // non-blocking, so that Close ends a Read
		ended:   make(chan struct{}),
	}
	go w.read()
	if err := w.add(dir); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// add watches a directory; watching it twice is not an error.
func (w *watch) add(dir string) error {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	var addErr error
	if err := raw.Control(func(fd uintptr) {
		_, addErr = unix.InotifyAddWatch(int(fd), dir,
			unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
	}); err != nil {
		return err
	}
	if addErr != nil {
		return fmt.Errorf("inotify: %s: %w", dir, addErr)
	}
	return nil
}

// read consumes events without looking at them: the directory itself shows what has happened.
func (w *watch) read() {
	defer close(w.ended)
	b := make([]byte, 4096)
	for {
		if _, err := w.f.Read(b); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() error {
	err := w.f.Close()
	<-w.ended
	return err
}
