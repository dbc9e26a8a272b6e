package provider

import (
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Set is what a backup works on: one copy for each share, all of one moment.
type Set struct {
	Copies []Copy // in the order of the shares that Run was given
}

// A Copy is the shadow copy of one share.
type Copy struct {
	Share   string // as Run was given it
	Path    string // the share that exposes the copy, a UNC path: `\\fs1\vms@{f0f1f2f3-…}`
	Server  string // the server that holds it
	SetID   fsrvp.SetID
	CopyID  fsrvp.CopyID // shares on one volume may have one copy between them
	Created time.Time    // when the server took it, by the server's clock, UTC
}

// Copy returns the copy of a share, named in any form that fsrvp.ParseShareName takes.
func (s *Set) Copy(share string) (Copy, bool) {
	want, err := fsrvp.ParseShareName(share)
	if err != nil {
		return Copy{}, false
	}
	for _, c := range s.Copies {
		if have, err := fsrvp.ParseShareName(c.Share); err == nil && have.Equal(want) {
			return c, true
		}
	}
	return Copy{}, false
}
