package replay

import (
	"fmt"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A ShareMap maps hosts and shares of a recording to today's. A nil ShareMap changes nothing.
type ShareMap struct{ entries []shareEntry }

// A shareEntry without a share applies to all shares of the host.
type shareEntry struct{ from, to fsrvp.ShareName }

// NewShareMap makes a map of recorded names to today's. A name is a share, `\\host\share`, or a
// whole host, `\\host`; case does not matter. A share's entry takes precedence over its host's. A
// share that is mapped to `\\host` keeps its bare name. NewShareMap fails with a
// [*fsrvp.ShareNameError] for a name of another form, and if `\\host` is mapped to `\\host\share`.
func NewShareMap(names map[string]string) (*ShareMap, error) {
	m := new(ShareMap)
	for from, to := range names {
		f, err := parseName(from)
		if err != nil {
			return nil, err
		}
		t, err := parseName(to)
		if err != nil {
			return nil, err
		}
		if f.Share == "" && t.Share != "" {
			return nil, &fsrvp.ShareNameError{Name: to, Reason: "all shares of " + from + " would become one"}
		}
		for _, e := range m.entries {
			if e.from.Equal(f) {
				return nil, fmt.Errorf("replay: %s is mapped twice", from)
			}
		}
		m.entries = append(m.entries, shareEntry{f, t})
	}
	return m, nil
}

// parseName reads `\\host\share` or `\\host`.
func parseName(name string) (fsrvp.ShareName, error) {
	if host, ok := strings.CutPrefix(name, `\\`); ok {
		host = strings.TrimSuffix(host, `\`)
		if !strings.Contains(host, `\`) {
			n, err := fsrvp.ParseShareName(`\\` + host + `\share`)
			n.Share = ""
			return n, err
		}
	}
	n, err := fsrvp.ParseShareName(name)
	n.Rest = ""
	return n, err
}

// Rewrite is a value for Config.Shares and ServiceConfig.Shares.
func (m *ShareMap) Rewrite(n fsrvp.ShareName) fsrvp.ShareName {
	if m == nil {
		return n
	}
	for _, host := range []bool{false, true} {
		key := n
		if host {
			key.Share = ""
		}
		for _, e := range m.entries {
			if !e.from.Equal(key) {
				continue
			}
			n.Host = e.to.Host
			if e.to.Share != "" {
				n.Share = e.to.Share
			}
			return n
		}
	}
	return n
}
