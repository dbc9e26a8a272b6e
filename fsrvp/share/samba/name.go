package samba

import (
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// maxName is what a share's name may have, in bytes. With one more "net conf" succeeds and the
// whole registry can no longer be read: no smbd starts.
const maxName = 255

// forbidden is what Samba refuses in a share's name, and what its files cannot have in one.
const forbidden = `%<>*?|/\+=;:",` + "]\t"

// CheckName reports whether an exposed share can have that name: it ends with @{id} or @{id}$, has
// at most 255 bytes of UTF-8, and nothing that Samba refuses, or loses, in the name of a share.
// Other names give an error that wraps fsrvp.ErrNotSupported.
func (s *Shares) CheckName(name string) error {
	if reason := nameFault(name); reason != "" {
		return fmt.Errorf("samba: %q cannot be the name of an exposed share: %s: %w", name, reason,
			fsrvp.ErrNotSupported)
	}
	return nil
}

// nameFault returns what is wrong with the name of an exposed share.
func nameFault(name string) string {
	if len(name) > maxName {
		return fmt.Sprintf("it has %d bytes, more than %d", len(name), maxName)
	}
	if err := checkText(name); err != nil {
		return "it " + err.Error()
	}
	if i := strings.IndexAny(name, forbidden); i >= 0 {
		return fmt.Sprintf("it has a %q", name[i])
	}
	switch {
	case strings.HasPrefix(name, "-"):
		return "it begins with a dash" // and would be an option
	case strings.HasPrefix(name, " "), strings.Contains(name, "  "):
		return "it begins with a space or has two in a row" // files of Samba's have single ones
	}
	if _, ok := exposedID(name); !ok {
		return "it does not end with @{id}"
	}
	return ""
}

// exposedID returns the id in the name of an exposed share, "vms@{id}" or "vms$@{id}$".
func exposedID(name string) (fsrvp.CopyID, bool) {
	_, id, ok := fsrvp.ParseExposedName(name)
	return id, ok
}
