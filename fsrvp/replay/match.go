package replay

import (
	"errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

var errNoMatch = errors.New("the recording has no such call")

// life returns the sequence of a set, by the id that a client uses.
func (s *Service) life(set fsrvp.SetID) *sequence {
	if recorded, ok := s.names.recordedSet(set); ok && s.lives[recorded] != nil {
		return s.lives[recorded]
	}
	return &s.foreign
}

// matches reports whether a recorded call matches a client's request.
func (s *Service) matches(st *step, req fsrvp.Message) bool {
	if st.Opnum() != req.Opnum() {
		return false
	}
	switch was := st.Request.(type) {
	case *fsrvp.SetContextRequest:
		return was.Context == req.(*fsrvp.SetContextRequest).Context
	case *fsrvp.AddToShadowCopySetRequest:
		return s.sameShare(was.ShareName, req.(*fsrvp.AddToShadowCopySetRequest).ShareName)
	case *fsrvp.IsPathSupportedRequest:
		return s.sameShare(was.ShareName, req.(*fsrvp.IsPathSupportedRequest).ShareName)
	case *fsrvp.IsPathShadowCopiedRequest:
		return s.sameShare(was.ShareName, req.(*fsrvp.IsPathShadowCopiedRequest).ShareName)
	case *fsrvp.GetShareMappingRequest:
		now := req.(*fsrvp.GetShareMappingRequest)
		return was.Level == now.Level && s.sameShare(was.ShareName, now.ShareName) &&
			s.sameCopy(was.ShadowCopyID, now.ShadowCopyID, was.ShareName)
	case *fsrvp.DeleteShareMappingRequest:
		now := req.(*fsrvp.DeleteShareMappingRequest)
		return s.sameShare(was.ShareName, now.ShareName) && s.sameCopy(was.ShadowCopyID, now.ShadowCopyID,
			was.ShareName)
	}
	return true
}

// sameShare compares a recorded share with one of today's.
func (s *Service) sameShare(recorded, now ndr.WTF8) bool {
	was := s.names.unc(string(recorded))
	if was == string(now) {
		return true
	}
	a, errA := fsrvp.ParseShareName(was)
	b, errB := fsrvp.ParseShareName(string(now))
	return errA == nil && errB == nil && a.Equal(b)
}

// sameCopy compares a recorded copy with one of today's, by the ids that were handed out. If
// neither was handed out, it only checks whether both are null.
func (s *Service) sameCopy(recorded, now fsrvp.CopyID, share ndr.WTF8) bool {
	if _, handedOut := s.names.recordedCopy(now); handedOut || s.copies[recorded] {
		return handedOut && s.names.copy(recorded, string(share)) == now
	}
	return (recorded == fsrvp.CopyID{}) == (now == fsrvp.CopyID{})
}

// response returns a step's answer to a call, and records the ids in it.
func (s *Service) response(st *step, req fsrvp.Message) fsrvp.Response {
	if st.Response == nil {
		resp := fsrvp.NewResponse(req.Opnum())
		return resp
	}
	if st.Succeeded() {
		switch r := st.Response.(type) {
		case *fsrvp.StartShadowCopySetResponse:
			now := r.ShadowCopySetID
			if now == st.Request.(*fsrvp.StartShadowCopySetRequest).ClientShadowCopySetID {
				now = req.(*fsrvp.StartShadowCopySetRequest).ClientShadowCopySetID
			}
			s.names.learnSet(r.ShadowCopySetID, now)
		case *fsrvp.AddToShadowCopySetResponse:
			was := st.Request.(*fsrvp.AddToShadowCopySetRequest)
			now := r.ShadowCopyID
			if now == was.ClientShadowCopyID {
				now = req.(*fsrvp.AddToShadowCopySetRequest).ClientShadowCopyID
			}
			s.names.learnCopy(r.ShadowCopyID, now, string(was.ShareName))
		}
	}
	return s.names.response(st.Request, st.Response)
}
