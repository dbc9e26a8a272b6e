package replay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A plain is a Service that looks at all recorded calls for each that is made: slow, and as simple
// as the rules are.
type plain struct {
	*Service // for names and comparisons
	sequence map[*sequence][]*step
	queries  map[fsrvp.Opnum][]*step
}

func newPlain(t testing.TB, recording []*transcript.Exchange) *plain {
	p := &plain{newService(t, recording, nil), map[*sequence][]*step{}, map[fsrvp.Opnum][]*step{}}
	p.sequence[&p.creation], p.sequence[&p.foreign] = p.creation.steps, p.foreign.steps
	for _, l := range p.lives {
		p.sequence[l] = l.steps
	}
	for _, st := range p.steps {
		p.queries[st.Opnum()] = append(p.queries[st.Opnum()], st)
	}
	return p
}

func (p *plain) find(req fsrvp.Message) (found, expected *step, err error) {
	switch op := req.Opnum(); op {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
		found, err = p.query(p.queries[op], req)
	case fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet:
		found, expected, err = p.next(p.sequence[&p.creation], req)
	default:
		found, expected, err = p.next(p.sequence[p.life(transcript.SetOf(req))], req)
	}
	return found, expected, err
}

func (p *plain) query(steps []*step, req fsrvp.Message) (*step, error) {
	var last *step
	for _, st := range steps {
		if !p.matches(st, req) {
			continue
		}
		if last = st; !st.asked {
			break
		}
	}
	if last == nil {
		return nil, errNoMatch
	}
	last.asked = true
	return last, nil
}

func (p *plain) next(steps []*step, req fsrvp.Message) (found, expected *step, err error) {
	err = errNoMatch
	blocked := false
	var again *step
	for i, st := range steps {
		matches := p.matches(st, req)
		if matches && st.asked {
			again = st
		}
		switch {
		case st.asked || st.skipped:
			continue
		case matches && !blocked:
			st.asked = true
			for _, before := range steps[:i] {
				if st.Succeeded() && st.Opnum() != fsrvp.OpGetShareMapping && !before.asked && before.optional() {
					before.skipped = true
				}
			}
			return st, nil, nil
		}
		if matches {
			err = fmt.Errorf("%v must come first", expected.Opnum())
			break
		}
		if st.optional() {
			continue
		}
		if expected == nil {
			expected = st
		}
		blocked = blocked || st.Opnum() != req.Opnum()
	}
	if again != nil && req.Opnum() == fsrvp.OpGetShareMapping {
		return again, nil, nil
	}
	return nil, expected, err
}

// TestServiceAsRules compares the Service with the plain one, on what clients did at random: their
// calls in their order, some left out, repeated, made too early, or others than those.
func TestServiceAsRules(t *testing.T) {
	answered, departed := 0, 0
	for seed := range uint64(12) {
		first := newFileServer(t)
		w := &walker{
			Rand:    rand.New(rand.NewPCG(seed, 7)),
			clients: []fsrvp.Service{as(first.recorder, "a"), as(first.recorder, "b")},
			sets:    []fsrvp.SetID{{}, {1}}, copies: []fsrvp.CopyID{{}, {2}},
		}
		_ = w.clients[0].SetContext(t.Context(), fsrvp.ContextBackup)
		for range 150 {
			w.step(t.Context())
		}
		recording := first.recording(t)
		s, p := newService(t, recording, nil), newPlain(t, recording)
		for i := 0; i < len(recording); i++ {
			e := recording[i]
			switch w.IntN(6) {
			case 0:
				e = recording[w.IntN(len(recording))]
			case 1:
				continue
			case 2:
				i = max(i-2, -1)
			}
			got, resp, departure := s.match(e.Request)
			want, expected, err := p.find(e.Request)
			if err == nil && !want.Answered() {
				err = errNoMatch
			}
			if err != nil {
				require.NotNil(t, departure, "call %d: %v", i, e.Request)
				require.Equal(t, err.Error(), departure.Reason)
				require.Equal(t, expected == nil, departure.Expected == nil)
				if expected != nil {
					require.Same(t, expected.Exchange, departure.Expected)
				}
				departed++
				continue
			}
			require.Nil(t, departure, "call %d: %v", i, e.Request)
			require.Same(t, want.Exchange, got)
			require.Equal(t, p.response(want, e.Request), resp)
			answered++
		}
		var unasked []*transcript.Exchange
		for _, st := range p.steps {
			if !st.asked {
				unasked = append(unasked, st.Exchange)
			}
		}
		require.Equal(t, unasked, s.Unasked())
	}
	require.Greater(t, answered, 300)
	require.Greater(t, departed, 100)
}

// longRecording makes the calls of whole lives, n at least, of several clients that take turns.
func longRecording(n int) []*transcript.Exchange {
	var list []*transcript.Exchange
	at := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	call := func(req fsrvp.Message, resp fsrvp.Response) {
		at = at.Add(2 * time.Microsecond)
		list = append(list, &transcript.Exchange{Time: at, ResponseTime: at.Add(time.Microsecond), Request: req,
			Response: resp})
	}
	for i := 0; len(list) < n; i++ {
		share := ndr.WTF8(fmt.Sprintf(`\\fs1\share%d`, i%50))
		var set, client fsrvp.SetID
		var id fsrvp.CopyID
		binary.BigEndian.PutUint64(set[:], uint64(i)+1)
		binary.BigEndian.PutUint64(client[8:], uint64(i)+1)
		binary.BigEndian.PutUint64(id[:], uint64(i)+1<<32)
		call(&fsrvp.IsPathSupportedRequest{ShareName: share},
			&fsrvp.IsPathSupportedResponse{SupportedByThisProvider: 1})
		call(&fsrvp.GetSupportedVersionRequest{}, &fsrvp.GetSupportedVersionResponse{MinVersion: 1, MaxVersion: 1})
		call(&fsrvp.SetContextRequest{}, &fsrvp.SetContextResponse{})
		call(&fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: client},
			&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set})
		call(&fsrvp.AddToShadowCopySetRequest{ShadowCopySetID: set, ShareName: share},
			&fsrvp.AddToShadowCopySetResponse{ShadowCopyID: id})
		call(&fsrvp.PrepareShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.PrepareShadowCopySetResponse{})
		call(&fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.CommitShadowCopySetResponse{})
		call(&fsrvp.ExposeShadowCopySetRequest{ShadowCopySetID: set}, &fsrvp.ExposeShadowCopySetResponse{})
		call(&fsrvp.GetShareMappingRequest{ShadowCopySetID: set, ShadowCopyID: id, ShareName: share, Level: 1},
			&fsrvp.GetShareMappingResponse{Level: 1, ShareMapping1: &fsrvp.ShareMapping1{ShadowCopySetID: set,
				ShadowCopyID: id}})
		call(&fsrvp.IsPathShadowCopiedRequest{ShareName: share},
			&fsrvp.IsPathShadowCopiedResponse{ShadowCopyPresent: 1})
		call(&fsrvp.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set},
			&fsrvp.RecoveryCompleteShadowCopySetResponse{})
		call(&fsrvp.DeleteShareMappingRequest{ShadowCopySetID: set, ShadowCopyID: id, ShareName: share},
			&fsrvp.DeleteShareMappingResponse{})
		call(&fsrvp.DeleteShareMappingRequest{ShadowCopySetID: fsrvp.SetID{0xEE}, ShareName: share},
			&fsrvp.DeleteShareMappingResponse{StatusResponse: fsrvp.StatusResponse{Return: fsrvp.ErrObjectNotFound}})
	}
	return list
}

// TestServiceLong answers many recorded calls in their order: 100,000, or FSRVP_REPLAY_CALLS. A
// Service that looked at what lies behind would not come to an end.
func TestServiceLong(t *testing.T) {
	n := 100_000
	if s := os.Getenv("FSRVP_REPLAY_CALLS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	recording := longRecording(n)
	begun := time.Now()
	s := newService(t, recording, nil)
	made := time.Since(begun)
	for i, e := range recording {
		resp, err := s.answer(t.Context(), e.Request)
		require.Equal(t, e.Response.Status(), fsrvp.StatusOf(err), i)
		require.Equal(t, e.Response, resp, i)
	}
	require.Empty(t, s.Unasked())
	require.Zero(t, s.Departures())
	t.Logf("%d calls: %v to make the Service, %v to answer them", len(recording), made, time.Since(begun)-made)

	// Nor does what nobody asks for make it slow, nor what is asked for again and again.
	s = newService(t, recording, nil)
	begun = time.Now()
	last := recording[slices.IndexFunc(recording,
		func(e *transcript.Exchange) bool { return e.Opnum() == fsrvp.OpIsPathShadowCopied })]
	for i := range n / 10 {
		switch i % 4 {
		case 0:
			require.Error(t, s.AbortShadowCopySet(t.Context(), fsrvp.SetID{0xAA}))
		case 1:
			require.Error(t, s.SetContext(t.Context(), fsrvp.ContextAppRollback))
		case 2:
			_, err := s.answer(t.Context(), last.Request)
			require.NoError(t, err)
		case 3:
			require.Error(t, s.DeleteShareMapping(t.Context(), fsrvp.SetID{0xEE}, fsrvp.CopyID{1}, `\\fs1\none`))
		}
	}
	t.Logf("%d departures and repetitions: %v", n/10, time.Since(begun))
}

func TestFoldShare(t *testing.T) {
	for _, same := range [][]string{
		{`\\fs1\Daten`, `\\FS2\DATEN\`, `\\x\daten\below`, `\\x\DATEN@{1}`},
		{`\\a\` + "K", `\\a\k`, `\\a\` + "\u212A"}, // Kelvin
		{`\\a\` + "ſ", `\\a\S`},
	} {
		for _, name := range same {
			require.Equal(t, foldShare(same[0]), foldShare(name), name)
		}
	}
	require.NotEqual(t, foldShare(`\\a\b`), foldShare(`\\a\c`))
	require.NotEqual(t, foldShare("none"), foldShare("None"), "no UNC path, compared as it is")
}
