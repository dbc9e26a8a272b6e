package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// fromOne is a server's transport from one address, as all connections of a host have.
type fromOne struct{ fs *fileServer }

func (f fromOne) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	return f.fs.listener.DialFrom(ctx, "10.0.0.9")
}

// An at is an agent that knows the address that it is reached at.
type at struct {
	Agent
	addr net.Addr
}

func (a at) RemoteAddr() net.Addr { return a.addr }

// reach is names, in lower case, of servers, and the addresses that they lead to.
type reach map[string]struct {
	fs   *fileServer
	addr string // may be empty
}

func (r reach) dial(ctx context.Context, server string) (Agent, error) {
	to, ok := r[strings.ToLower(server)]
	if !ok {
		return nil, fmt.Errorf("no such host: %s", server)
	}
	c, err := fsrvp.Dial(ctx, server, &fsrvp.Config{Transport: fromOne{to.fs}, Auth: realm.Initiator("backup"), Target: "host/" + to.fs.name})
	if err != nil {
		return nil, err
	}
	var a Agent = newClient(c, to.fs)
	if to.addr != "" {
		a = at{a, dcerpctest.Addr(to.addr)}
	}
	return a, nil
}

// TestNamesOfOneServer has shares of one machine by each of its names, all in one run.
func TestNamesOfOneServer(t *testing.T) {
	fs := startFileServer(t, "fs1", 6, func(_ *fileServer, cfg *agent.Config) {
		cfg.Aliases = []string{"alias.example.test", "10.0.0.1", "role.example.test", "10.0.0.2"}
	})
	for _, c := range []struct {
		name       string
		addr, role string
	}{
		{"with addresses", "10.0.0.1:445", "10.0.0.2:445"},
		{"without", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := reach{
				"fs1": {fs, c.addr}, "fs1.example.test": {fs, c.addr}, "alias.example.test": {fs, c.addr},
				"10.0.0.1": {fs, c.addr}, "role.example.test": {fs, c.role},
			}
			shares := []string{
				`\\role.example.test\s5`, `\\fs1\s0`, `\\fs1.example.test\s1`, `\\FS1.example.test.\s2\`, `\\alias.example.test\s3`, `\\10.0.0.1\s4`,
			}
			err := Run(t.Context(), &Config{Dial: n.dial, RetryFor: -1}, shares, func(_ context.Context, set *Set) error {
				require.Len(t, set.Copies, len(shares))
				require.Len(t, fs.agent.Table(), 1, "sets on the server")
				for i, got := range set.Copies {
					require.Equal(t, shares[i], got.Share)
					require.Equal(t, set.Copies[0].SetID, got.SetID)
					require.True(t, strings.HasPrefix(got.Path, `\\`+got.Server+`\`), got.Path)
				}
				return nil
			})
			require.NoError(t, err)
			fs.requireClean(t)
			for _, second := range []string{`\\fs1.example.test\s0`, `\\fs1.example.test.\S0\`} {
				err = Run(t.Context(), &Config{Dial: n.dial, RetryFor: -1}, []string{`\\fs1\s0`, second}, func(context.Context, *Set) error {
					t.Error("the backup was called")
					return nil
				})
				require.ErrorContains(t, err, `share `+second+`: is the same share as \\fs1\s0`)
			}
			// A role may have a share of the node's name for one: the server knows.
			err = Run(t.Context(), &Config{Dial: n.dial, RetryFor: -1}, []string{`\\fs1\s0`, `\\role.example.test\s0`}, func(context.Context, *Set) error {
				t.Error("the backup was called")
				return nil
			})
			require.ErrorContains(t, err, `share \\role.example.test\s0: is the same share as \\fs1\s0`)
			fs.requireClean(t)
		})
	}
}

// TestServerNamedAsAsked has a server that names itself as each client has named it: its address
// says that it is one.
func TestServerNamedAsAsked(t *testing.T) {
	fs := startFileServer(t, "fs1", 2, func(_ *fileServer, cfg *agent.Config) {
		cfg.Names, cfg.Aliases = nil, []string{"fs1", "alias.example.test"}
	})
	n := reach{"fs1": {fs, "10.0.0.1:445"}, "alias.example.test": {fs, "10.0.0.1:445"}}
	err := Run(t.Context(), &Config{Dial: n.dial, RetryFor: -1}, []string{`\\fs1\s0`, `\\alias.example.test\s1`}, func(_ context.Context, set *Set) error {
		require.Len(t, fs.agent.Table(), 1, "sets on the server")
		require.Equal(t, set.Copies[0].SetID, set.Copies[1].SetID)
		return nil
	})
	require.NoError(t, err)
	fs.requireClean(t)
}

// TestServersOfOneName has machines of two domains that have one name for themselves.
func TestServersOfOneName(t *testing.T) {
	own := func(_ *fileServer, cfg *agent.Config) {
		cfg.Machine, cfg.Aliases = "FS1", []string{"fs1.a.test", "fs1.b.test"}
	}
	a, b := startFileServer(t, "fs1a", 1, own), startFileServer(t, "fs1b", 1, own)
	for _, addrs := range [][2]string{{"10.0.0.1:445", "10.0.1.1:445"}, {"", ""}} {
		n := reach{"fs1.a.test": {a, addrs[0]}, "fs1.b.test": {b, addrs[1]}}
		err := Run(t.Context(), &Config{Dial: n.dial, RetryFor: -1}, []string{`\\fs1.a.test\s0`, `\\fs1.b.test\s0`}, func(_ context.Context, set *Set) error {
			require.Len(t, a.agent.Table(), 1)
			require.Len(t, b.agent.Table(), 1)
			require.NotEqual(t, set.Copies[0].SetID, set.Copies[1].SetID)
			return nil
		})
		require.NoError(t, err)
		a.requireClean(t)
		b.requireClean(t)
	}
}

// TestOwnerThatNobodyResolves has a server that names itself as no client can reach it.
func TestOwnerThatNobodyResolves(t *testing.T) {
	fs := startFileServer(t, "nas01", 1, func(_ *fileServer, c *agent.Config) { c.Machine = "vm-4711" })
	n := newNetwork(fs)
	require.NoError(t, Run(t.Context(), &Config{Dial: n.dial}, []string{fs.unc(0)}, func(_ context.Context, set *Set) error {
		require.Equal(t, "nas01", set.Copies[0].Server)
		return nil
	}))
	fs.requireClean(t)
	// Where it has a name in the domain of the host that was asked, that one is the owner's.
	front := startFileServer(t, "cluster", 1, func(_ *fileServer, cfg *agent.Config) {
		cfg.Aliases = []string{"cluster.example.test"}
		cfg.Owner = func(context.Context, string, backend.Share) (string, error) { return "node2", nil }
	})
	node := startFileServer(t, "node2", 1, func(_ *fileServer, cfg *agent.Config) { cfg.Aliases = []string{"cluster.example.test"} })
	r := reach{"cluster.example.test": {front, ""}, "node2.example.test": {node, ""}}
	require.NoError(t, Run(t.Context(), &Config{Dial: r.dial}, []string{`\\cluster.example.test\s0`}, func(_ context.Context, set *Set) error {
		require.Equal(t, "node2.example.test", set.Copies[0].Server)
		require.Len(t, node.agent.Table(), 1)
		return nil
	}))
	node.requireClean(t)
	// An owner that is not there is named where the host refuses the share.
	front.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpAddToShadowCopySet {
			return &fsrvp.Error{Server: "cluster", Op: op, Status: fsrvp.ErrInvalidArg}
		}
		return nil
	})
	delete(r, "node2.example.test")
	err := Run(t.Context(), &Config{Dial: r.dial}, []string{`\\cluster.example.test\s0`}, func(context.Context, *Set) error { return nil })
	require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
	require.ErrorContains(t, err, "node2, could not be reached: no such host")
	front.requireClean(t)
}

func TestPathsOfOneShare(t *testing.T) {
	server := startFileServer(t, "fs1", 1)
	paths := []string{`\\fs1\s0\a\b`, `\\fs1.example.test\S0\c`, `\\fs1\s0\a\bc`}
	n := reach{"fs1": {server, ""}, "fs1.example.test": {server, ""}}
	require.NoError(t, Run(t.Context(), &Config{Dial: n.dial}, paths, func(_ context.Context, set *Set) error {
		require.Len(t, server.agent.Table(), 1)
		for i, rest := range []string{`a\b`, `c`, `a\bc`} {
			require.Equal(t, rest, set.Copies[i].Rest)
			require.Equal(t, paths[i], set.Copies[i].Share)
			require.Equal(t, set.Copies[0].Path, set.Copies[i].Path)
			require.Equal(t, set.Copies[0].CopyID, set.Copies[i].CopyID)
			got, ok := set.Copy(paths[i])
			require.True(t, ok)
			require.Equal(t, set.Copies[i], got)
		}
		got, ok := set.Copy(`\\fs1\s0`)
		require.True(t, ok)
		require.Equal(t, set.Copies[0], got)
		return nil
	}))
	server.requireClean(t)
	for _, second := range []string{`\\fs1\s0`, `\\FS1\s0\A`, `\\fs1\s0\a\b\c`, `\\fs1.example.test\s0\a`} {
		err := Run(t.Context(), &Config{Dial: n.dial}, []string{paths[0], second}, func(context.Context, *Set) error { return nil })
		require.ErrorContains(t, err, second+`: is the same share as \\fs1\s0\a\b`)
		require.ErrorContains(t, err, "contains the other")
	}
}

func TestCopySub(t *testing.T) {
	fsys := fstest.MapFS{
		"Dir/sub/file": {Data: []byte("x")}, "Dir/dfs": {Mode: fs.ModeIrregular}, "link": {Mode: fs.ModeSymlink, Data: []byte("Dir")}, "file": {},
	}
	for rest, want := range map[string]error{
		"": nil, "Dir": nil, `dir\SUB`: nil, "none": fs.ErrNotExist, `Dir\none`: fs.ErrNotExist, "link": ErrLink, `Dir\dfs`: ErrLink, `dir\dfs\x`: ErrLink,
	} {
		sub, err := Copy{Share: `\\fs1\s0\` + rest, Rest: rest}.Sub(fsys)
		require.ErrorIs(t, err, want, rest)
		if want == nil {
			_, err = fs.ReadDir(sub, ".")
			require.NoError(t, err, rest)
		}
		if errors.Is(err, ErrLink) {
			require.ErrorContains(t, err, `\\fs1\s0\`+rest)
		}
	}
	_, err := Copy{Rest: "file"}.Sub(fsys)
	require.ErrorContains(t, err, "not a directory")
	sub, err := Copy{Rest: `dir\SUB`}.Sub(fsys)
	require.NoError(t, err)
	b, err := fs.ReadFile(sub, "file")
	require.NoError(t, err)
	require.Equal(t, "x", string(b))
}
