package samba

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// marker is the parameter that tells an exposed share from an administrator's. Samba keeps
// parameters with a colon that it does not know.
const marker = "fsrvp:copy"

// ownerParam is the parameter with the mark of the agent that has made an exposed share. Older
// agents did not set it.
const ownerParam = "fsrvp:owner"

// A definition is a registry share to be made.
type definition struct {
	name   string
	params []param
}

func (d *definition) set(key, value string) {
	d.remove(key)
	d.params = append(d.params, param{key, value})
}

func (d *definition) remove(key string) {
	d.params = slices.DeleteFunc(d.params, func(p param) bool { return sameKey(p.key, key) })
}

// notCloned are the parameters of a base share that an exposed share has not, or has its own of.
var notCloned = []string{
	"path", "comment", "available", "read only", "copy", "-valid", "usershare", "admin users", "vfs objects", marker, ownerParam,
}

// clone returns the definition of the share that exposes a copy of base.
func (c *conf) clone(base *section, e backend.Exposure) definition {
	d := definition{name: e.Name}
	d.set("available", "Yes")
	d.set("path", e.Path)
	d.set("comment", comment(e))
	d.set(marker, e.Snapshot.ID.String())
	if e.Mark != (backend.Mark{}) {
		d.set(ownerParam, e.Mark.String())
	}
	all := modules(c.value(base, "vfs objects"))
	keep := slices.DeleteFunc(slices.Clone(all), isSnapshotter)
	for _, p := range base.params {
		if !slices.ContainsFunc(notCloned, func(key string) bool { return sameKey(key, p.key) }) &&
			!isSnapshotterParam(p.key) {
			d.params = append(d.params, param{p.key, substituteS(p.value, base.name)})
		}
	}
	if v, ok := base.get("vfs objects"); len(keep) < len(all) {
		d.set("vfs objects", strings.Join(keep, " "))
	} else if ok {
		d.set("vfs objects", v)
	}
	if c.value(base, "admin users") != "" { // not to inherit those of [global]
		d.set("admin users", "")
	}
	if e.Writable {
		d.set("read only", yesNo(c.yes(base, "read only", true)))
	} else {
		c.makeReadOnly(&d)
	}
	return d
}

// makeReadOnly lets nobody write: those in the write list may write to a share that is read-only.
func (c *conf) makeReadOnly(d *definition) {
	d.set("read only", "Yes")
	d.remove("write list")
	if v, _ := c.global.get("write list"); v != "" {
		d.set("write list", "")
	}
}

// isReadOnly reports whether nobody can write to a share.
func (c *conf) isReadOnly(s *section) bool {
	return c.yes(s, "read only", true) && c.value(s, "write list") == ""
}

func yesNo(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

func comment(e backend.Exposure) string {
	text := "Shadow copy of " + e.Base.Name
	if !e.Snapshot.Created.IsZero() {
		text += ", taken " + e.Snapshot.Created.UTC().Format(time.DateTime) + " UTC"
	}
	return text
}

// modules takes "vfs objects" apart.
func modules(list string) []string { return words(list) }

// words takes apart a parameter that is a list.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" \t,;\"'", r) })
}

// moduleName returns the name of a module that may be spelled as a file, or with an instance:
// "shadow_copy2:daily".
func moduleName(module string) string {
	module, _, _ = strings.Cut(strings.ToLower(module), ":")
	return strings.TrimSuffix(path.Base(module), ".so")
}

// isSnapshotter reports whether a VFS module shows snapshots, or takes them: a copy has none.
func isSnapshotter(module string) bool {
	switch moduleName(module) {
	case "shadow_copy", "shadow_copy2", "shadow_copy_test", "btrfs", "snapper", "shell_snap", "ceph_snapshots",
		"shadow_copy_zfs":
		return true
	}
	return false
}

// isSnapshotterParam reports whether a parameter is one of those modules'.
func isSnapshotterParam(key string) bool {
	module, _, ok := strings.Cut(key, ":")
	module = strings.ToLower(strings.TrimSpace(module))
	return ok && (module == "shadow" || isSnapshotter(module))
}

// isRemote reports whether a VFS module has the files elsewhere, so that the share's path is none
// of this machine.
func isRemote(module string) bool {
	switch moduleName(module) {
	case "ceph", "ceph_new", "ceph_rgw", "glusterfs":
		return true
	}
	return false
}

// file returns the definition as a file for "net conf import", and the parameters that cannot be in
// one, for "net conf setparm": the file's syntax joins lines that end in a backslash, and makes one
// space out of several. It refuses what could be read as more than one value.
func (d *definition) file() (text string, others []param, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", d.name)
	for _, p := range d.params {
		if err := checkText(p.value); err != nil {
			return "", nil, fmt.Errorf("samba: share %q: parameter %q %w", d.name, p.key, err)
		}
		if err := checkText(p.key); err != nil || strings.ContainsAny(p.key, "=\\") ||
			strings.ContainsAny(p.key[:1], "#;[") {
			return "", nil, fmt.Errorf("samba: share %q: %q is no parameter", d.name, p.key)
		}
		if isPlain(p.value) {
			fmt.Fprintf(&b, "\t%s = %s\n", p.key, p.value)
		} else {
			others = append(others, p)
		}
	}
	return b.String(), others, nil
}

// isPlain reports whether a value is the same after it was in a file.
func isPlain(value string) bool {
	const space = " \t"
	for i := range value {
		last := i == 0 || i == len(value)-1 || strings.ContainsRune(space, rune(value[i-1]))
		if last && strings.ContainsRune(space, rune(value[i])) {
			return false
		}
	}
	return !strings.HasSuffix(value, `\`)
}
