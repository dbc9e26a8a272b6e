package fsrvp_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/go-fsrvp/go-fsrvp/"

// layers says what a package of this module may import of it, tests aside. A package that is
// not named may import anything: it is a leaf that only mains, tests and callers name.
var layers = map[string][]string{
	"ndr":        {},
	"dcerpc/pdu": {"ndr"},
	"dcerpc":     {"ndr", "dcerpc/pdu"},
	"dcerpc/epm": {"ndr", "dcerpc/pdu", "dcerpc"},
	"fsrvp":      {"ndr", "dcerpc/pdu", "dcerpc"},

	"fsrvp/backend":    {"ndr", "dcerpc/pdu", "dcerpc", "fsrvp"},
	"fsrvp/transcript": {"ndr", "dcerpc/pdu", "dcerpc", "fsrvp"},
	"fsrvp/replay":     {"ndr", "dcerpc/pdu", "dcerpc", "fsrvp", "fsrvp/transcript"},
}

// leaves are what the layers above may not pull in, however indirectly: who embeds ndr, dcerpc or
// fsrvp compiles none of them.
var leaves = []string{
	"github.com/jcmturner/", "github.com/oiweiwei/", "github.com/gopacket/", "go.etcd.io/", "github.com/schollz/", "github.com/stretchr/",
}

// backends are the packages that an agent gets its snapshots and shares from. None pulls in the
// agent or a database.
var backends = []string{"fsrvp/snapshot", "fsrvp/share/"}

// soleImporters are the only packages that may import a dependency themselves.
var soleImporters = map[string][]string{
	"github.com/jcmturner/gokrb5": {"dcerpc/krb5", "dcerpc/krb5/krb5test"},
	"github.com/gopacket/":        {"fsrvp/capture"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// TestImportDirections holds the layering: ndr, dcerpc/pdu, dcerpc, fsrvp, then everything else.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps", module+"...").Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		require.NoError(t, err, string(exit.Stderr))
	}
	require.NoError(t, err)
	seen, seenBackends := 0, 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		if allowed, ok := layers[name]; ok {
			seen++
			for _, dep := range p.Deps {
				sub, ours := strings.CutPrefix(dep, module)
				owner, _, _ := strings.Cut(sub, "/internal/") // comes with what it is internal to
				if ours && owner != name && !slices.Contains(allowed, owner) {
					t.Errorf("%s depends on %s", name, sub)
				}
				for _, leaf := range leaves {
					if strings.HasPrefix(dep, leaf) {
						t.Errorf("%s depends on %s", name, dep)
					}
				}
			}
		}
		if slices.ContainsFunc(backends, func(b string) bool { return strings.HasPrefix(name, b) }) &&
			!strings.HasSuffix(name, "/snaptest") {
			seenBackends++
			for _, dep := range p.Deps {
				if dep == module+"fsrvp/agent" || strings.HasPrefix(dep, "go.etcd.io/") {
					t.Errorf("%s, a backend, depends on %s", name, dep)
				}
			}
		}
		if name == "ndr" {
			for _, dep := range p.Deps {
				if strings.Contains(strings.SplitN(dep, "/", 2)[0], ".") {
					t.Errorf("ndr depends on %s, not on the standard library alone", dep)
				}
			}
		}
		for _, imp := range p.Imports {
			for prefix, who := range soleImporters {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(who, name) {
					t.Errorf("%s imports %s; only %v may", name, imp, who)
				}
			}
			if strings.HasPrefix(imp, module+"examples/") && !strings.HasPrefix(name, "examples/") {
				t.Errorf("%s imports %s", name, imp)
			}
		}
	}
	require.Equal(t, len(layers), seen, "layers that the list above names and the module has not")
	require.GreaterOrEqual(t, seenBackends, 8, "packages of backends")
}
