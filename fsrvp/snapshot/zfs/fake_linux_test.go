package zfs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
)

// stateEnv makes the test's program a fake of zfs, mount or umount, whose pools are in the
// directory that it names: datasets are directories, which tests mount as tmpfs with the dataset as
// their source; snapshots and clones are copies. It says and refuses what OpenZFS 2.3 does, in its
// words, as far as the backend may meet it.
const stateEnv = "FSRVP_FAKE_ZFS"

// A state is what the pools hold. It is a file, locked while a program runs.
type state struct {
	Datasets  map[string]*dataset
	Snapshots map[string]*snapshot
	Fail      map[string]string // what a command, by its first words, fails with
	Log       []string
	Next      int
}

type dataset struct {
	GUID, Mountpoint, Readonly, Mark, Origin string
}

type snapshot struct {
	Creation int64
	Mark     string
	Holds    []string
}

func (st *state) dir() string { return os.Getenv(stateEnv) }

// content is where a fake keeps what a snapshot or a clone shows.
func (st *state) content(name string) string {
	return filepath.Join(st.dir(), "content", strings.NewReplacer("/", "+").Replace(name))
}

// fake runs one command, and exits.
func fake(args []string) {
	dir := os.Getenv(stateEnv)
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	st := new(state)
	if err == nil {
		err = st.load(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(99)
	}
	st.Log = append(st.Log, strings.Join(args, " "))
	failure := ""
	for words, text := range st.Fail {
		if strings.HasPrefix(strings.Join(args, " "), words) {
			failure = text
		}
	}
	if failure == "" {
		failure = st.run(args)
	}
	if err := st.save(dir); err != nil {
		failure = err.Error()
	}
	if failure != "" {
		fmt.Fprintln(os.Stderr, failure)
		os.Exit(1)
	}
	os.Exit(0)
}

func (st *state) load(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, st)
}

func (st *state) save(dir string) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "state") // the fake may be killed at any moment
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// options takes the -o options and flags off arguments.
func options(args []string) (values map[string]string, rest []string) {
	values = make(map[string]string)
	for len(args) > 0 {
		switch {
		case args[0] == "-o" || args[0] == "-t":
			key, value, _ := strings.Cut(args[1], "=")
			if args[0] == "-t" {
				key, value = "-t", args[1]
			}
			values[key] = value
			args = args[2:]
		case strings.HasPrefix(args[0], "-"):
			args = args[1:]
		default:
			return values, args
		}
	}
	return values, nil
}

func (st *state) run(args []string) string {
	o, rest := options(args[2:])
	switch args[0] + " " + args[1] {
	case "zfs get":
		return st.get(rest[0], rest[1])
	case "zfs list":
		var names []string
		for name := range st.Snapshots {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			s := st.Snapshots[name]
			fmt.Printf("%s\t%s\t%s\n", name, s.Mark, strings.Join(st.clones(name), ","))
		}
	case "zfs snapshot":
		return st.snapshot(o[property], rest)
	case "zfs hold":
		for _, name := range rest[1:] {
			s := st.Snapshots[name]
			if s == nil {
				return "cannot hold snapshot '" + name + "': dataset does not exist"
			}
			if slices.Contains(s.Holds, rest[0]) {
				return "cannot hold snapshot '" + name + "': tag already exists on this dataset"
			}
			s.Holds = append(s.Holds, rest[0])
		}
	case "zfs release":
		s := st.Snapshots[rest[1]]
		if s == nil {
			return "cannot open '" + rest[1] + "': dataset does not exist"
		}
		if !slices.Contains(s.Holds, rest[0]) {
			return "cannot release hold from snapshot '" + rest[1] + "': no such tag on this dataset"
		}
		s.Holds = slices.DeleteFunc(s.Holds, func(h string) bool { return h == rest[0] })
	case "zfs clone":
		from, to := rest[0], rest[1]
		if st.Snapshots[from] == nil {
			return "cannot open '" + from + "': dataset does not exist"
		}
		if st.Datasets[to] != nil {
			return "cannot create '" + to + "': dataset already exists"
		}
		st.Next++
		st.Datasets[to] = &dataset{
			GUID: fmt.Sprint(1000 + st.Next), Mountpoint: "legacy", Readonly: o["readonly"], Mark: o[property], Origin: from,
		}
		return copyTree(st.content(from), st.content(to))
	case "zfs set":
		st.Datasets[rest[1]].Readonly = strings.TrimPrefix(rest[0], "readonly=")
	case "zfs destroy":
		return st.destroy(rest[0])
	default:
		return st.mounts(args)
	}
	return ""
}

func (st *state) clones(name string) []string {
	var clones []string
	for clone, d := range st.Datasets {
		if d.Origin == name {
			clones = append(clones, clone)
		}
	}
	sort.Strings(clones)
	return clones
}

func (st *state) get(what, of string) string {
	d, s := st.Datasets[of], st.Snapshots[of]
	switch {
	case d == nil && s == nil:
		return "cannot open '" + of + "': dataset does not exist"
	case what == "guid":
		fmt.Println(d.GUID)
	case what == "readonly":
		fmt.Println(d.Readonly)
	case what == "creation":
		fmt.Println(s.Creation)
	}
	return ""
}

// snapshot takes all or none.
func (st *state) snapshot(mark string, names []string) string {
	seen := make(map[string]bool)
	for _, name := range names {
		of, _, _ := strings.Cut(name, "@")
		if seen[of] {
			return "cannot create snapshots : multiple snapshots of same fs not allowed\nno snapshots were created"
		}
		seen[of] = true
		if st.Datasets[of] == nil {
			return "cannot open '" + of + "': dataset does not exist"
		}
		if st.Snapshots[name] != nil {
			return "cannot create snapshot '" + name + "': dataset already exists\nno snapshots were created"
		}
	}
	for _, name := range names {
		of, _, _ := strings.Cut(name, "@")
		if failure := copyTree(st.Datasets[of].Mountpoint, st.content(name)); failure != "" {
			return failure
		}
		st.Snapshots[name] = &snapshot{Creation: time.Now().Unix(), Mark: mark}
	}
	return ""
}

func (st *state) destroy(name string) string {
	if s := st.Snapshots[name]; s != nil {
		switch clones := st.clones(name); {
		case len(clones) > 0:
			return "cannot destroy '" + name + "': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\n" +
				strings.Join(clones, "\n")
		case len(s.Holds) > 0:
			return "cannot destroy snapshot " + name + ": it's being held. Run 'zfs holds -r " + name + "' to see holders."
		case st.mountedFrom(name):
			return "cannot destroy snapshot " + name + ": dataset is busy"
		}
		delete(st.Snapshots, name)
	} else if strings.Contains(name, "@") {
		return "could not find any snapshots to destroy; check snapshot names."
	} else if st.Datasets[name] == nil {
		return "cannot open '" + name + "': dataset does not exist"
	} else if st.mountedFrom(name) {
		return "cannot unmount '" + name + "': pool or dataset is busy"
	} else {
		delete(st.Datasets, name)
	}
	if err := os.RemoveAll(st.content(name)); err != nil {
		return err.Error()
	}
	return ""
}

// mountedFrom reports whether something of the fake is mounted: the mount has its content as root.
func (st *state) mountedFrom(name string) bool {
	all, err := mount.All()
	if err != nil {
		return true
	}
	content, err := os.Stat(st.content(name))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(m mount.Mount) bool {
		if filepath.Base(m.Root) != filepath.Base(st.content(name)) {
			return false
		}
		shown, err := os.Stat(m.Point)
		return err == nil && os.SameFile(content, shown)
	})
}

// mounts is mount and umount, by bind mounts.
func (st *state) mounts(args []string) string {
	if args[0] == "umount" {
		path := args[1]
		if err := unix.Unmount(path, 0); err != nil {
			return "umount: " + path + ": target is busy."
		}
		return ""
	}
	o, rest := options(args[1:])
	_, readOnly := o["ro"]
	_, again := o["remount,ro"]
	if !again {
		if err := unix.Mount(st.content(rest[0]), rest[1], "", unix.MS_BIND, ""); err != nil {
			return "filesystem '" + rest[0] + "' cannot be mounted: " + err.Error()
		}
	}
	if readOnly || again {
		if err := unix.Mount("", rest[1], "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return "mount: " + err.Error()
		}
	}
	return ""
}

func copyTree(from, to string) string {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err.Error()
	}
	if err := os.RemoveAll(to); err != nil { // of a fake that was killed
		return err.Error()
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return string(out)
	}
	return ""
}
