package samba

import (
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// maxName is the maximum length of a share's name, in bytes. With one byte more "net conf"
// succeeds, but then the whole registry cannot be read any more and no smbd starts.
const maxName = 255

// forbidden has the characters that Samba refuses in a share's name, or that its files cannot
// represent in one.
const forbidden = `%<>*?|/\+=;:",` + "]\t"

// CheckName returns an error that wraps fsrvp.ErrNotSupported if an exposed share cannot have that
// name. The name must end with @{id} or @{id}$, have at most 255 bytes of UTF-8, and contain
// nothing that Samba refuses or loses in the name of a share.
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
