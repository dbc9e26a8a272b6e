package main

import "errors"

// times sets the times of what is no symbolic link.
func (x *restorer) times(m *scanned, name string) error {
	if m.kind == typeSymlink {
		return nil
	}
	accessed := m.accessed
	if accessed.IsZero() {
		accessed = m.modified
	}
	return x.root.Chtimes(name, accessed, m.modified)
}

func (x *restorer) special(*scanned, string) error { return errors.ErrUnsupported }
