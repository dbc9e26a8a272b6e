package capture

import (
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// guess reports whether a request on an association whose bind the capture lacks clearly belongs to
// the interface: its stub is a message of its opnum that contains a share's path. After one such
// request, the others of the association are accepted by their opnum.
func (a *association) guess(p *pdu.Request) (presentation, bool) {
	if a.bound || !p.Flags.Has(pdu.FirstFrag|pdu.LastFrag) || dcerpc.AuthLevel(p.Auth.Level) == dcerpc.LevelPrivacy {
		return presentation{}, false
	}
	for _, transfer := range []pdu.SyntaxID{pdu.NDR20(), pdu.NDR64()} {
		syntax, _ := transfer.NDR(p.DataRep)
		if namesShare(fsrvp.Opnum(p.Opnum), syntax, p.Stub) {
			return presentation{fsrvp: true, transfer: transfer, assumed: true}, true
		}
	}
	return presentation{}, false
}

// namesShare reports whether a stub is a request with the path of a share.
func namesShare(op fsrvp.Opnum, s ndr.Syntax, stub []byte) bool {
	m, err := fsrvp.ParseRequest(op, s, stub)
	if err != nil {
		return false
	}
	var share ndr.WTF8
	switch m := m.(type) {
	case *fsrvp.AddToShadowCopySetRequest:
		share = m.ShareName
	case *fsrvp.IsPathSupportedRequest:
		share = m.ShareName
	case *fsrvp.IsPathShadowCopiedRequest:
		share = m.ShareName
	case *fsrvp.GetShareMappingRequest:
		share = m.ShareName
	case *fsrvp.DeleteShareMappingRequest:
		share = m.ShareName
	}
	return strings.HasPrefix(string(share), `\\`)
}
