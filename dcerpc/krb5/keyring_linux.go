package krb5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A cache of the type KEYRING is a keyring with a key for each ticket and one for the client. It is
// in the keyring of a collection, whose key "krb_ccache:primary" names the cache that kinit uses;
// and that is in the anchor, one of the kernel's own keyrings:
//
//	anchor/_krb_COLLECTION/CACHE/{__krb5_princ__, krbtgt/..., ...}
//
// The collection of a persistent keyring is called "_krb".
const (
	keyringPrimary   = "krb_ccache:primary"
	keyringPrincipal = "__krb5_princ__"
	keyringOffsets   = "__krb5_time_offsets__"
)

// The limits of a keyring.
const (
	maxKeyringKeys = 4096
	maxKeyPayload  = 1 << 20
)

// readKeyring reads a cache of the kernel's keyrings: "ANCHOR:COLLECTION",
// "ANCHOR:COLLECTION:CACHE" or "COLLECTION", which is in the session's.
func readKeyring(name string) (*ccache, error) {
	// To read what is in a user's keyring, it is linked to that of the process; which in Go is the
	// thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := readKeyringCache(name)
	switch {
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		err = errEmptyCCache
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOTSUP):
		err = fmt.Errorf("the kernel gives no access to its keyrings, as in many containers; run kinit with KRB5CCNAME=FILE:/path: %w", err)
	case errors.Is(err, unix.EACCES):
		err = fmt.Errorf("the keyring is another user's, or of another session: %w", err)
	}
	if err != nil {
		return nil, ccacheError("KEYRING:"+name, err)
	}
	return c, nil
}

func readKeyringCache(name string) (*ccache, error) {
	anchor, rest, ok := strings.Cut(name, ":")
	if !ok {
		anchor, rest = "legacy", name
	}
	collectionName, cacheName, one := strings.Cut(rest, ":")
	collection, err := keyringCollection(anchor, collectionName)
	if err != nil {
		return nil, err
	}
	if !one {
		if cacheName, err = primaryOfKeyring(collection); err != nil {
			return nil, err
		}
	}
	ring, err := unix.KeyctlSearch(collection, "keyring", cacheName, 0)
	if err != nil {
		return nil, err
	}
	return parseKeyring(ring)
}

// keyringCollection finds the keyring of a collection.
func keyringCollection(anchor, name string) (int, error) {
	ring, link := 0, 0
	collection := "_krb_" + name
	switch anchor {
	case "persistent":
		uid := os.Geteuid()
		if name != "" {
			n, err := strconv.ParseUint(name, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("%q is no number of a user", name)
			}
			uid = int(n)
		}
		var err error
		ring, err = unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, uid, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
		if errors.Is(err, unix.ENOTSUP) && uid == os.Geteuid() { // a kernel without persistent ones
			ring, err = unix.KEY_SPEC_USER_KEYRING, nil
		}
		if err != nil {
			return 0, err
		}
		link, collection = unix.KEY_SPEC_PROCESS_KEYRING, "_krb"
	case "user":
		ring, link = unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING
	case "session", "legacy":
		ring = unix.KEY_SPEC_SESSION_KEYRING
	case "process", "thread":
		return 0, fmt.Errorf("the keyring of a %s has nothing that another one has put there", anchor)
	default:
		return 0, fmt.Errorf("%q is not a keyring; it must be persistent, user or session", anchor)
	}
	return unix.KeyctlSearch(ring, "keyring", collection, link)
}

// primaryOfKeyring returns the name of a collection's cache: | version 4 | length 4 | name |.
func primaryOfKeyring(collection int) (string, error) {
	key, err := unix.KeyctlSearch(collection, "user", keyringPrimary, 0)
	if err != nil {
		return "", err
	}
	b, err := readKey(key)
	if err != nil {
		return "", err
	}
	r := &ccacheReader{b: b}
	version := r.uint32()
	name := string(r.data())
	if r.bad || version != 1 || name == "" {
		return "", errors.New("the name of its primary cache is malformed")
	}
	return name, nil
}

// parseKeyring reads the keys of a cache.
func parseKeyring(ring int) (*ccache, error) {
	keys, err := readKey(ring)
	if err != nil {
		return nil, err
	}
	c := &ccache{}
	for n := 0; len(keys) >= 4 && n < maxKeyringKeys; n, keys = n+1, keys[4:] {
		key := int(int32(binary.NativeEndian.Uint32(keys)))
		kind, name, err := describeKey(key)
		var b []byte
		if err == nil && kind != "keyring" && name != keyringOffsets {
			b, err = readKey(key)
		}
		switch {
		case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
			continue // it has gone meanwhile
		case err != nil:
			return nil, err
		case b == nil:
			continue
		case name == keyringPrincipal:
			r := &ccacheReader{b: b}
			if c.client = r.principal(); r.bad {
				return nil, errors.New("the name of its client is malformed")
			}
			continue
		}
		t, err := parseCredential(b)
		if err != nil {
			return nil, fmt.Errorf("the key %s: %w", name, err)
		}
		if t != nil {
			c.tickets = append(c.tickets, t)
		}
	}
	if len(c.client.Name) == 0 {
		return nil, errEmptyCCache
	}
	return c, nil
}

// describeKey returns the type and the name of a key.
func describeKey(key int) (kind, name string, err error) {
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, key)
	if err != nil {
		return "", "", err
	}
	parts := strings.SplitN(text, ";", 5) // type, user, group, permissions, name
	return parts[0], parts[len(parts)-1], nil
}

// readKey reads a key; of a keyring that is the numbers of its keys.
func readKey(key int) ([]byte, error) {
	for size := 4 << 10; ; {
		b := make([]byte, size)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, key, b, 0)
		if err != nil {
			return nil, err
		}
		if n <= size {
			return b[:n:n], nil
		}
		if n > maxKeyPayload {
			return nil, fmt.Errorf("a key has %d bytes", n)
		}
		size = n
	}
}
