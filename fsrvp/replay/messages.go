package replay

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// newMessages returns an empty request and an empty response of a method that exists.
func newMessages(op fsrvp.Opnum) (fsrvp.Message, fsrvp.Response) {
	switch op {
	case fsrvp.OpGetSupportedVersion:
		return new(fsrvp.GetSupportedVersionRequest), new(fsrvp.GetSupportedVersionResponse)
	case fsrvp.OpSetContext:
		return new(fsrvp.SetContextRequest), new(fsrvp.SetContextResponse)
	case fsrvp.OpStartShadowCopySet:
		return new(fsrvp.StartShadowCopySetRequest), new(fsrvp.StartShadowCopySetResponse)
	case fsrvp.OpAddToShadowCopySet:
		return new(fsrvp.AddToShadowCopySetRequest), new(fsrvp.AddToShadowCopySetResponse)
	case fsrvp.OpCommitShadowCopySet:
		return new(fsrvp.CommitShadowCopySetRequest), new(fsrvp.CommitShadowCopySetResponse)
	case fsrvp.OpExposeShadowCopySet:
		return new(fsrvp.ExposeShadowCopySetRequest), new(fsrvp.ExposeShadowCopySetResponse)
	case fsrvp.OpRecoveryCompleteShadowCopySet:
		return new(fsrvp.RecoveryCompleteShadowCopySetRequest), new(fsrvp.RecoveryCompleteShadowCopySetResponse)
	case fsrvp.OpAbortShadowCopySet:
		return new(fsrvp.AbortShadowCopySetRequest), new(fsrvp.AbortShadowCopySetResponse)
	case fsrvp.OpIsPathSupported:
		return new(fsrvp.IsPathSupportedRequest), new(fsrvp.IsPathSupportedResponse)
	case fsrvp.OpIsPathShadowCopied:
		return new(fsrvp.IsPathShadowCopiedRequest), new(fsrvp.IsPathShadowCopiedResponse)
	case fsrvp.OpGetShareMapping:
		return new(fsrvp.GetShareMappingRequest), new(fsrvp.GetShareMappingResponse)
	case fsrvp.OpDeleteShareMapping:
		return new(fsrvp.DeleteShareMappingRequest), new(fsrvp.DeleteShareMappingResponse)
	default:
		return new(fsrvp.PrepareShadowCopySetRequest), new(fsrvp.PrepareShadowCopySetResponse)
	}
}

// perform calls the method of a request. It returns the response, also where the status in it is a failure; an
// error is a *dcerpc.Fault, or says that there was no answer.
func perform(ctx context.Context, s fsrvp.Service, req fsrvp.Message) (fsrvp.Response, error) {
	var err error
	switch m := req.(type) {
	case *fsrvp.GetSupportedVersionRequest:
		var v fsrvp.Versions
		v, err = s.GetSupportedVersion(ctx)
		return answer(versionsResponse(v, status(err)), err)
	case *fsrvp.SetContextRequest:
		err = s.SetContext(ctx, m.Context)
		return answer(&fsrvp.SetContextResponse{Return: status(err)}, err)
	case *fsrvp.StartShadowCopySetRequest:
		var id fsrvp.SetID
		id, err = s.StartShadowCopySet(ctx, m.ClientShadowCopySetID)
		return answer(&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: id, Return: status(err)}, err)
	case *fsrvp.AddToShadowCopySetRequest:
		var id fsrvp.CopyID
		id, err = s.AddToShadowCopySet(ctx, m.ClientShadowCopyID, m.ShadowCopySetID, string(m.ShareName))
		return answer(&fsrvp.AddToShadowCopySetResponse{ShadowCopyID: id, Return: status(err)}, err)
	case *fsrvp.CommitShadowCopySetRequest:
		err = s.CommitShadowCopySet(ctx, m.ShadowCopySetID, duration(m.TimeOutInMilliseconds))
		return answer(&fsrvp.CommitShadowCopySetResponse{Return: status(err)}, err)
	case *fsrvp.ExposeShadowCopySetRequest:
		err = s.ExposeShadowCopySet(ctx, m.ShadowCopySetID, duration(m.TimeOutInMilliseconds))
		return answer(&fsrvp.ExposeShadowCopySetResponse{Return: status(err)}, err)
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		err = s.RecoveryCompleteShadowCopySet(ctx, m.ShadowCopySetID)
		return answer(&fsrvp.RecoveryCompleteShadowCopySetResponse{Return: status(err)}, err)
	case *fsrvp.AbortShadowCopySetRequest:
		err = s.AbortShadowCopySet(ctx, m.ShadowCopySetID)
		return answer(&fsrvp.AbortShadowCopySetResponse{Return: status(err)}, err)
	case *fsrvp.IsPathSupportedRequest:
		var p fsrvp.PathSupport
		p, err = s.IsPathSupported(ctx, string(m.ShareName))
		return answer(pathSupportResponse(p, status(err)), err)
	case *fsrvp.IsPathShadowCopiedRequest:
		var p fsrvp.PathShadowCopied
		p, err = s.IsPathShadowCopied(ctx, string(m.ShareName))
		return answer(pathShadowCopiedResponse(p, status(err)), err)
	case *fsrvp.GetShareMappingRequest:
		var mapping *fsrvp.ShareMapping
		mapping, err = s.GetShareMapping(ctx, m.ShadowCopyID, m.ShadowCopySetID, string(m.ShareName), m.Level)
		resp, rangeErr := shareMappingResponse(mapping, m.Level, status(err))
		return answer(resp, errors.Join(err, rangeErr))
	case *fsrvp.DeleteShareMappingRequest:
		err = s.DeleteShareMapping(ctx, m.ShadowCopySetID, m.ShadowCopyID, string(m.ShareName))
		return answer(&fsrvp.DeleteShareMappingResponse{Return: status(err)}, err)
	case *fsrvp.PrepareShadowCopySetRequest:
		err = s.PrepareShadowCopySet(ctx, m.ShadowCopySetID, duration(m.TimeOutInMilliseconds))
		return answer(&fsrvp.PrepareShadowCopySetResponse{Return: status(err)}, err)
	}
	return nil, errors.New("replay: not a request")
}

// answer returns the response where err says what the server answered.
func answer(r fsrvp.Response, err error) (fsrvp.Response, error) {
	if err != nil && status(err).IsSuccess() {
		return nil, err
	}
	return r, nil
}

// status returns the status that err wraps, zero where there is none.
func status(err error) fsrvp.Status {
	var s fsrvp.Status
	errors.As(err, &s)
	return s
}

func versionsResponse(v fsrvp.Versions, s fsrvp.Status) *fsrvp.GetSupportedVersionResponse {
	return &fsrvp.GetSupportedVersionResponse{MinVersion: v.Min, MaxVersion: v.Max, Return: s}
}

func pathSupportResponse(p fsrvp.PathSupport, s fsrvp.Status) *fsrvp.IsPathSupportedResponse {
	return &fsrvp.IsPathSupportedResponse{SupportedByThisProvider: boolean(p.Supported), OwnerMachineName: nullIfEmpty(p.Owner), Return: s}
}

func pathShadowCopiedResponse(p fsrvp.PathShadowCopied, s fsrvp.Status) *fsrvp.IsPathShadowCopiedResponse {
	return &fsrvp.IsPathShadowCopiedResponse{ShadowCopyPresent: boolean(p.Present), ShadowCopyCompatibility: p.Compatibility, Return: s}
}

// shareMappingResponse fails where the time of creation has no place on the wire.
func shareMappingResponse(m *fsrvp.ShareMapping, level uint32, s fsrvp.Status) (*fsrvp.GetShareMappingResponse, error) {
	resp := &fsrvp.GetShareMappingResponse{Level: level, Return: s}
	if m == nil || level != 1 {
		return resp, nil
	}
	created, err := fsrvp.FiletimeOf(m.Created)
	if err != nil {
		return resp, err
	}
	resp.ShareMapping1 = &fsrvp.ShareMapping1{
		ShadowCopySetID: m.SetID, ShadowCopyID: m.CopyID,
		ShareNameUNC: nullIfEmpty(m.Share), ShadowCopyShareName: nullIfEmpty(m.Exposed), CreationTimestamp: created,
	}
	return resp, nil
}

// boolean returns a BOOL (MS-DTYP 2.2.3).
func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// nullIfEmpty returns a string for which a Service knows no NULL.
func nullIfEmpty(s string) ndr.NullString { return ndr.NullString{String: s, Valid: s != ""} }

func duration(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// milliseconds is the wire's form of a wait, rounded up; one that the wire cannot say becomes the nearest that it can.
func milliseconds(wait time.Duration) uint32 {
	ms := wait / time.Millisecond
	if wait%time.Millisecond > 0 {
		ms++
	}
	return uint32(min(max(ms, 0), math.MaxUint32))
}
