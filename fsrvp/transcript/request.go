package transcript

import "github.com/go-fsrvp/go-fsrvp/fsrvp"

// SetOf returns the shadow copy set that a request names, as the server calls it, or the zero SetID
// if the request names none.
func SetOf(req fsrvp.Message) fsrvp.SetID {
	switch r := req.(type) {
	case *fsrvp.AddToShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.PrepareShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.CommitShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.ExposeShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.AbortShadowCopySetRequest:
		return r.ShadowCopySetID
	case *fsrvp.GetShareMappingRequest:
		return r.ShadowCopySetID
	case *fsrvp.DeleteShareMappingRequest:
		return r.ShadowCopySetID
	}
	return fsrvp.SetID{}
}

// ShareOf returns the share that a request names, as it was sent, or "" if the request names none.
func ShareOf(req fsrvp.Message) string {
	switch r := req.(type) {
	case *fsrvp.IsPathSupportedRequest:
		return string(r.ShareName)
	case *fsrvp.IsPathShadowCopiedRequest:
		return string(r.ShareName)
	case *fsrvp.AddToShadowCopySetRequest:
		return string(r.ShareName)
	case *fsrvp.GetShareMappingRequest:
		return string(r.ShareName)
	case *fsrvp.DeleteShareMappingRequest:
		return string(r.ShareName)
	}
	return ""
}
