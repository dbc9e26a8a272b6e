package replay

import (
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A translation maps the ids and names of a recording to today's.
type translation struct {
	shares func(fsrvp.ShareName) fsrvp.ShareName // nil if names stay the same

	mu     sync.Mutex
	sets   map[fsrvp.SetID]fsrvp.SetID // recorded to today's
	copies map[copyKey]fsrvp.CopyID
	firsts map[fsrvp.CopyID]fsrvp.CopyID // the entry of each copy's first share in copies
	// The inverse maps.
	recordedSets   map[fsrvp.SetID]fsrvp.SetID
	recordedCopies map[fsrvp.CopyID]fsrvp.CopyID
	created        map[creation]fsrvp.Filetime
	// strangers maps each recorded set that is not known to an unused id. Nil means that such sets
	// keep their ids.
	strangers map[fsrvp.SetID]fsrvp.SetID
}

// A copyKey is a recorded copy and one of its shares, in lower case: today each share may have its
// own copy.
type copyKey struct {
	id    fsrvp.CopyID
	share string
}

// A creation is a recorded copy and a recorded time of its creation.
type creation struct {
	id   fsrvp.CopyID
	time fsrvp.Filetime
}

func newTranslation(shares func(fsrvp.ShareName) fsrvp.ShareName) *translation {
	return &translation{
		shares:         shares,
		sets:           map[fsrvp.SetID]fsrvp.SetID{},
		copies:         map[copyKey]fsrvp.CopyID{},
		firsts:         map[fsrvp.CopyID]fsrvp.CopyID{},
		recordedSets:   map[fsrvp.SetID]fsrvp.SetID{},
		recordedCopies: map[fsrvp.CopyID]fsrvp.CopyID{},
		created:        map[creation]fsrvp.Filetime{},
	}
}

// ownID is the value in a Difference for an id that should not have been given before.
const ownID = "an id of its own"

// learnSet records a recorded id and today's. If they contradict what is known, it returns what
// today's should have been, otherwise nil.
func (t *translation) learnSet(recorded, now fsrvp.SetID) (want any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if (recorded == fsrvp.SetID{}) || (now == fsrvp.SetID{}) {
		if recorded != now {
			return recorded
		}
		return nil
	}
	if known, ok := t.sets[recorded]; ok && known != now {
		want = known
	} else if known, ok := t.recordedSets[now]; ok && known != recorded {
		want = ownID
	}
	t.sets[recorded], t.recordedSets[now] = now, recorded
	return want
}

// learnCopy is learnSet for the copy of a share. Shares of one recorded copy should have one today,
// and others not.
func (t *translation) learnCopy(recorded, now fsrvp.CopyID, share string) (want any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if (recorded == fsrvp.CopyID{}) || (now == fsrvp.CopyID{}) {
		if recorded != now {
			return recorded
		}
		return nil
	}
	first, ok := t.firsts[recorded]
	if !ok {
		t.firsts[recorded] = now
	}
	if ok && first != now {
		want = first
	} else if known, ok := t.recordedCopies[now]; ok && known != recorded {
		want = ownID
	}
	t.copies[copyKey{recorded, bareShare(share)}], t.recordedCopies[now] = now, recorded
	return want
}

// learnCreation is learnSet for the time when a copy was created: equal times must stay equal, and
// nothing more is expected of them.
func (t *translation) learnCreation(id fsrvp.CopyID, recorded, now fsrvp.Filetime) (want any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if recorded == 0 || now == 0 {
		if recorded != now {
			return recorded
		}
		return nil
	}
	key := creation{id, recorded}
	if known, ok := t.created[key]; !ok {
		t.created[key] = now
	} else if known != now {
		return known
	}
	return nil
}

// bareShare returns the bare name of a share, in lower case.
func bareShare(unc string) string {
	if n, err := fsrvp.ParseShareName(unc); err == nil {
		unc = n.Share
	}
	return strings.ToLower(unc)
}

// set returns today's id of a recorded set.
func (t *translation) set(id fsrvp.SetID) fsrvp.SetID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now, ok := t.sets[id]; ok {
		return now
	}
	if t.strangers == nil || id == (fsrvp.SetID{}) {
		return id
	}
	now, ok := t.strangers[id]
	if !ok {
		now = fsrvp.NewSetID()
		t.strangers[id] = now
	}
	return now
}

// copy returns today's id of a recorded copy of a share. An unknown id stays the same.
func (t *translation) copy(id fsrvp.CopyID, share string) fsrvp.CopyID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now, ok := t.copies[copyKey{id, bareShare(share)}]; ok {
		return now
	}
	if now, ok := t.firsts[id]; ok {
		return now
	}
	return id
}

// recordedSet returns the recorded id of one of today's sets.
func (t *translation) recordedSet(now fsrvp.SetID) (fsrvp.SetID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.recordedSets[now]
	return id, ok
}

// recordedCopy returns the recorded id of one of today's copies.
func (t *translation) recordedCopy(now fsrvp.CopyID) (fsrvp.CopyID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.recordedCopies[now]
	return id, ok
}

// name returns today's name for a host and a share's bare name. The share may be an exposed one.
func (t *translation) name(host, share string) fsrvp.ShareName {
	base, tail, exposed := strings.Cut(share, "@{")
	n := fsrvp.ShareName{Host: host, Share: base}
	if t.shares != nil {
		n = t.shares(n)
	}
	if !exposed {
		return n
	}
	const size = len("f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf")
	if len(tail) > size && tail[size] == '}' {
		if id, err := uuid.Parse(tail[:size]); err == nil {
			if now := t.copy(fsrvp.CopyID(id), base); now != fsrvp.CopyID(id) {
				tail = now.String() + tail[size:]
			}
		}
	}
	n.Share += "@{" + tail
	return n
}

// unc returns today's form of a UNC path. Other strings stay the same, and so does the part after
// the share.
func (t *translation) unc(path string) string {
	n, err := fsrvp.ParseShareName(path)
	if err != nil {
		return path
	}
	rest := path[len(n.UNC()):]
	return t.name(n.Host, n.Share).UNC() + rest
}

// request returns today's form of a recorded request. Waits stay the same.
func (t *translation) request(m fsrvp.Message) fsrvp.Message {
	switch m := m.(type) {
	case *fsrvp.AddToShadowCopySetRequest:
		n := *m
		n.ShadowCopySetID, n.ShareName = t.set(m.ShadowCopySetID), t.wtf8(m.ShareName)
		return &n
	case *fsrvp.CommitShadowCopySetRequest:
		n := *m
		n.ShadowCopySetID = t.set(m.ShadowCopySetID)
		return &n
	case *fsrvp.ExposeShadowCopySetRequest:
		n := *m
		n.ShadowCopySetID = t.set(m.ShadowCopySetID)
		return &n
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		return &fsrvp.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: t.set(m.ShadowCopySetID)}
	case *fsrvp.AbortShadowCopySetRequest:
		return &fsrvp.AbortShadowCopySetRequest{ShadowCopySetID: t.set(m.ShadowCopySetID)}
	case *fsrvp.IsPathSupportedRequest:
		return &fsrvp.IsPathSupportedRequest{ShareName: t.wtf8(m.ShareName)}
	case *fsrvp.IsPathShadowCopiedRequest:
		return &fsrvp.IsPathShadowCopiedRequest{ShareName: t.wtf8(m.ShareName)}
	case *fsrvp.GetShareMappingRequest:
		n := *m
		n.ShadowCopyID, n.ShadowCopySetID = t.copy(m.ShadowCopyID, string(m.ShareName)), t.set(m.ShadowCopySetID)
		n.ShareName = t.wtf8(m.ShareName)
		return &n
	case *fsrvp.DeleteShareMappingRequest:
		return &fsrvp.DeleteShareMappingRequest{
			ShadowCopySetID: t.set(m.ShadowCopySetID), ShadowCopyID: t.copy(m.ShadowCopyID, string(m.ShareName)),
			ShareName: t.wtf8(m.ShareName),
		}
	case *fsrvp.PrepareShadowCopySetRequest:
		n := *m
		n.ShadowCopySetID = t.set(m.ShadowCopySetID)
		return &n
	}
	return m // it has no ids of the server, and no names
}

func (t *translation) wtf8(path ndr.WTF8) ndr.WTF8 { return ndr.WTF8(t.unc(string(path))) }

// response returns today's form of a recorded response.
func (t *translation) response(req fsrvp.Message, resp fsrvp.Response) fsrvp.Response {
	switch r := resp.(type) {
	case *fsrvp.StartShadowCopySetResponse:
		return &fsrvp.StartShadowCopySetResponse{ShadowCopySetID: t.set(r.ShadowCopySetID), Return: r.Return}
	case *fsrvp.AddToShadowCopySetResponse:
		share := string(req.(*fsrvp.AddToShadowCopySetRequest).ShareName)
		return &fsrvp.AddToShadowCopySetResponse{ShadowCopyID: t.copy(r.ShadowCopyID, share), Return: r.Return}
	case *fsrvp.IsPathSupportedResponse:
		n := *r
		if owner := &n.OwnerMachineName; owner.String != "" && t.shares != nil {
			owner.String = t.shares(fsrvp.ShareName{Host: owner.String}).Host
		}
		return &n
	case *fsrvp.GetShareMappingResponse:
		if r.ShareMapping1 == nil {
			return r
		}
		n, m := *r, *r.ShareMapping1
		share := string(req.(*fsrvp.GetShareMappingRequest).ShareName)
		m.ShadowCopySetID, m.ShadowCopyID = t.set(m.ShadowCopySetID), t.copy(m.ShadowCopyID, share)
		m.ShareNameUNC.String = t.unc(m.ShareNameUNC.String)
		if exposed := &m.ShadowCopyShareName; exposed.Valid {
			host := ""
			if named, err := fsrvp.ParseShareName(share); err == nil {
				host = named.Host
			}
			exposed.String = t.name(host, exposed.String).Share
		}
		n.ShareMapping1 = &m
		return &n
	}
	return resp
}
