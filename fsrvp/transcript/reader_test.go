package transcript

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

const headerLine = `{"format":"fsrvp-transcript","version":1}` + "\n"

// write returns a transcript.
func write(t testing.TB, recording []*Exchange) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range recording {
		require.NoError(t, w.Write(e))
	}
	return b.Bytes()
}

// example is a recording with everything that a transcript can say.
func example() []*Exchange {
	set, cpy := fsrvp.SetID{1, 2, 3}, fsrvp.CopyID{4, 5, 6}
	who := Connection{"10.99.0.3:57978", "10.99.0.2:445", `FSRVP\backup`, "ntlm", dcerpc.LevelPrivacy}
	start := exchange(0, 1500*time.Microsecond, &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: fsrvp.SetID{9}},
		&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: set})
	start.Connection = who
	refused := exchange(2*time.Second, 2*time.Second+1,
		&fsrvp.IsPathSupportedRequest{ShareName: `\\fs\<bücher> & "more"`}, nil)
	refused.Connection = who
	refused.Fault = &dcerpc.Fault{Status: pdu.FaultOpRange, DidNotExecute: true}
	lost := exchange(3*time.Second, 0, &fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set,
		TimeOutInMilliseconds: 60000}, nil)
	lost.ResponseTime, lost.Error = time.Time{}, "unanswered"
	mapping := exchange(4*time.Second, 5*time.Second,
		&fsrvp.GetShareMappingRequest{ShadowCopyID: cpy, ShadowCopySetID: set, ShareName: `\\fs\data`, Level: 1},
		&fsrvp.GetShareMappingResponse{Level: 1, ShareMapping1: &fsrvp.ShareMapping1{
			ShadowCopySetID: set, ShadowCopyID: cpy, ShareNameUNC: ndr.StringOf(`\\fs\data`), CreationTimestamp: 134397840000000000,
		}})
	failed := exchange(6*time.Second, 7*time.Second, &fsrvp.AbortShadowCopySetRequest{ShadowCopySetID: set},
		&fsrvp.AbortShadowCopySetResponse{StatusResponse: fsrvp.StatusResponse{Return: fsrvp.ErrBadState}})
	return []*Exchange{start, refused, lost, mapping, failed}
}

// TestTranscriptGolden holds the format: a change of the file is a change of the version.
func TestTranscriptGolden(t *testing.T) {
	name := filepath.Join("testdata", "transcript.jsonl")
	golden, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(golden), string(write(t, example())))
	read, err := ReadAll(bytes.NewReader(golden))
	require.NoError(t, err)
	require.Equal(t, example(), read)
}

// text draws strings of UTF-16 code units as the wire has them, lone surrogates included.
func text() *rapid.Generator[string] {
	plain := rapid.StringN(-1, 20, -1)
	return rapid.Custom(func(t *rapid.T) string {
		s := plain.Draw(t, "text")
		if rapid.IntRange(0, 9).Draw(t, "lone surrogate") == 0 {
			s += "\xed\xa0\x80"
		}
		return s
	})
}

// messages draws a request and a response of one method.
func messages(t *rapid.T) (fsrvp.Message, fsrvp.Response) {
	guid := func() (id [16]byte) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "guid"))
		return id
	}
	number := func() uint32 { return rapid.Uint32().Draw(t, "number") }
	share := func() ndr.WTF8 { return ndr.WTF8(text().Draw(t, "share")) }
	null := func() ndr.NullString {
		if rapid.Bool().Draw(t, "null") {
			return ndr.NullString{}
		}
		return ndr.StringOf(text().Draw(t, "string"))
	}
	op := fsrvp.Opnum(rapid.IntRange(0, 12).Draw(t, "opnum"))
	req, resp := fsrvp.NewRequest(op), fsrvp.NewResponse(op)
	status := fsrvp.Status(number())
	switch m := req.(type) {
	case *fsrvp.SetContextRequest:
		m.Context = fsrvp.ContextValue(number())
	case *fsrvp.StartShadowCopySetRequest:
		m.ClientShadowCopySetID = guid()
	case *fsrvp.AddToShadowCopySetRequest:
		m.ClientShadowCopyID, m.ShadowCopySetID, m.ShareName = guid(), guid(), share()
	case *fsrvp.CommitShadowCopySetRequest:
		m.ShadowCopySetID, m.TimeOutInMilliseconds = guid(), number()
	case *fsrvp.ExposeShadowCopySetRequest:
		m.ShadowCopySetID, m.TimeOutInMilliseconds = guid(), number()
	case *fsrvp.RecoveryCompleteShadowCopySetRequest:
		m.ShadowCopySetID = guid()
	case *fsrvp.AbortShadowCopySetRequest:
		m.ShadowCopySetID = guid()
	case *fsrvp.IsPathSupportedRequest:
		m.ShareName = share()
	case *fsrvp.IsPathShadowCopiedRequest:
		m.ShareName = share()
	case *fsrvp.GetShareMappingRequest:
		m.ShadowCopyID, m.ShadowCopySetID, m.ShareName, m.Level = guid(), guid(), share(), number()
	case *fsrvp.DeleteShareMappingRequest:
		m.ShadowCopySetID, m.ShadowCopyID, m.ShareName = guid(), guid(), share()
	case *fsrvp.PrepareShadowCopySetRequest:
		m.ShadowCopySetID, m.TimeOutInMilliseconds = guid(), number()
	}
	switch m := resp.(type) {
	case *fsrvp.GetSupportedVersionResponse:
		m.MinVersion, m.MaxVersion, m.Return = number(), number(), status
	case *fsrvp.SetContextResponse:
		m.Return = status
	case *fsrvp.StartShadowCopySetResponse:
		m.ShadowCopySetID, m.Return = guid(), status
	case *fsrvp.AddToShadowCopySetResponse:
		m.ShadowCopyID, m.Return = guid(), status
	case *fsrvp.CommitShadowCopySetResponse:
		m.Return = status
	case *fsrvp.ExposeShadowCopySetResponse:
		m.Return = status
	case *fsrvp.RecoveryCompleteShadowCopySetResponse:
		m.Return = status
	case *fsrvp.AbortShadowCopySetResponse:
		m.Return = status
	case *fsrvp.IsPathSupportedResponse:
		m.SupportedByThisProvider, m.OwnerMachineName, m.Return = number(), null(), status
	case *fsrvp.IsPathShadowCopiedResponse:
		m.ShadowCopyPresent, m.ShadowCopyCompatibility, m.Return = number(), fsrvp.Compatibility(number()), status
	case *fsrvp.GetShareMappingResponse:
		m.Level, m.Return = number(), status
		if rapid.Bool().Draw(t, "mapping") {
			m.Level = 1
			m.ShareMapping1 = &fsrvp.ShareMapping1{
				ShadowCopySetID: guid(), ShadowCopyID: guid(), ShareNameUNC: null(), ShadowCopyShareName: null(),
				CreationTimestamp: fsrvp.Filetime(rapid.Int64().Draw(t, "time")),
			}
		}
	case *fsrvp.DeleteShareMappingResponse:
		m.Return = status
	case *fsrvp.PrepareShadowCopySetResponse:
		m.Return = status
	}
	return req, resp
}

// randomExchange draws any Exchange that a transcript can hold.
func randomExchange(t *rapid.T) *Exchange {
	moment := func() time.Time {
		return time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, "seconds"),
			rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
	}
	e := &Exchange{Time: moment(), Connection: Connection{
		Client: rapid.String().Draw(t, "client"), Server: rapid.String().Draw(t, "server"), User: rapid.String().Draw(t,
			"user"),
		Mechanism: rapid.String().Draw(t, "mechanism"), Level: dcerpc.AuthLevel(rapid.Byte().Draw(t, "level")),
	}}
	var resp fsrvp.Response
	e.Request, resp = messages(t)
	switch rapid.IntRange(0, 2).Draw(t, "answer") {
	case 0:
		e.Response, e.ResponseTime = resp, moment()
	case 1:
		e.Fault = &dcerpc.Fault{Status: pdu.FaultStatus(rapid.Uint32().Draw(t, "fault")),
			DidNotExecute: rapid.Bool().Draw(t, "not executed")}
		e.ResponseTime = moment()
	case 2:
		e.Error = rapid.String().Draw(t, "error")
	}
	return e
}

func TestTranscriptRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []*Exchange
		for range rapid.IntRange(1, 5).Draw(t, "calls") {
			e := randomExchange(t)
			if !e.Time.IsZero() {
				all = append(all, e)
			}
		}
		var b bytes.Buffer
		w := NewWriter(&b)
		for _, e := range all {
			require.NoError(t, w.Write(e))
		}
		if len(all) == 0 {
			return
		}
		require.Equal(t, 1+len(all), bytes.Count(b.Bytes(), []byte("\n")), "a line for each")
		first := bytes.Clone(b.Bytes())
		read, err := ReadAll(&b)
		require.NoError(t, err)
		require.Equal(t, all, read)

		b.Reset()
		w = NewWriter(&b)
		for _, e := range read {
			require.NoError(t, w.Write(e))
		}
		require.Equal(t, first, b.Bytes())
	})
}

// TestTranscriptDocumented reads lines that are written by hand, as the package's documentation
// allows them.
func TestTranscriptDocumented(t *testing.T) {
	const calls = `{"time":"2026-11-22T21:21:20.5+01:00","opnum":0,"method":"GetSupportedVersion","request":{},"response":null}`
	want := []*Exchange{{Time: epoch.Add(time.Second / 2), Request: &fsrvp.GetSupportedVersionRequest{}}}
	for name, text := range map[string]string{
		"plain":             headerLine + calls + "\n",
		"no last newline":   headerLine + calls,
		"empty lines":       "\n" + headerLine + "\n \r\n" + calls + "\n\n",
		"CR LF":             strings.ReplaceAll(headerLine+calls+"\n", "\n", "\r\n"),
		"joined":            headerLine + headerLine + calls + "\n" + headerLine,
		"header in order":   `{"version":1, "by":"hand", "format":"fsrvp-transcript"}` + "\n" + calls,
		"unknown members":   headerLine + strings.Replace(calls, `"opnum"`, `"packet":7,"syntax":"ndr64","opnum"`, 1),
		"a name is unknown": headerLine + strings.Replace(calls, `"method":"GetSupportedVersion",`, "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadAll(strings.NewReader(text))
			require.NoError(t, err)
			require.Equal(t, want, got)
			got, err = ReadAll(iotest.OneByteReader(strings.NewReader(text)))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	got, err := ReadAll(strings.NewReader(headerLine))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestErrors(t *testing.T) {
	const good = `{"time":"2026-11-22T20:21:20Z","opnum":1,"method":"SetContext","request":{"Context":0},"response":{"Return":5},"status":5}` + "\n"
	errReader := errors.New("reader")
	change := func(old, new string) string {
		require.Contains(t, good, old)
		return headerLine + good + strings.Replace(good, old, new, 1) + good
	}
	for name, test := range map[string]struct {
		text string
		line int
		want error // nil: any
		says string
	}{
		"empty":                   {"", 1, ErrNotTranscript, ""},
		"only empty lines":        {"\n\n", 3, ErrNotTranscript, ""},
		"no header":               {good, 1, ErrNotTranscript, ""},
		"a pcap":                  {"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", 1, ErrNotTranscript, ""},
		"a pcapng":                {"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00", 3, ErrNotTranscript, ""},
		"another format":          {headerLine + `{"format":"other","version":1}` + "\n", 2, ErrNotTranscript, ""},
		"header cut off":          {`{"format":"fsrvp-tr`, 1, ErrNotTranscript, ""},
		"another version":         {`{"format":"fsrvp-transcript","version":2}` + "\n", 1, ErrVersion, "2"},
		"later version":           {headerLine + good + `{"format":"fsrvp-transcript","version":0}`, 3, ErrVersion, "0"},
		"cut off":                 {(headerLine + good + good)[:len(headerLine)+len(good)+40], 3, io.ErrUnexpectedEOF, "cut off"},
		"no JSON":                 {headerLine + good + "call me\n" + good, 3, nil, "invalid character"},
		"not UTF-8":               {change(`"Context":0`, "\"Context\":0,\"x\":\"\xff\""), 3, nil, "UTF-8"},
		"no object":               {headerLine + good + "[]\n", 3, nil, "array"},
		"two on a line":           {headerLine + good + strings.TrimSpace(good) + good, 3, nil, "after top-level value"},
		"deep":                    {headerLine + good + strings.Repeat("[", 1<<20) + "\n", 3, nil, "depth"},
		"no time":                 {change(`"time":"2026-11-22T20:21:20Z",`, ""), 3, nil, "the time is missing"},
		"not a time":              {change(`20:21:20Z`, "20h"), 3, nil, "time"},
		"no opnum":                {change(`"opnum":1,"method":"SetContext",`, ``), 3, nil, "opnum"},
		"unknown opnum":           {change(`"opnum":1`, `"opnum":13`), 3, nil, "no opnum 13"},
		"large opnum":             {change(`"opnum":1`, `"opnum":65536`), 3, nil, "65536"},
		"opnum of another method": {change(`"opnum":1`, `"opnum":2`), 3, nil, `"SetContext"`},
		"no request":              {change(`{"Context":0}`, `null`), 3, nil, "the request is missing"},
		"another request":         {change(`{"Context":0}`, `{"Context":"x"}`), 3, nil, "request"},
		"bad response":            {change(`{"Return":5}`, `{"Return":-5}`), 3, nil, "response"},
		"another status":          {change(`"status":5`, `"status":6`), 3, nil, "0x00000006"},
		"success without results": {headerLine + good + `{"time":"2026-11-22T20:21:20Z","opnum":2,"request":{},"status":0}`, 3, nil, "no response with the results"},
		"status and fault":        {change(`{"Return":5}`, `null,"fault":{"status":5}`), 3, nil, "leave one of them out"},
		"status of no name":       {change(`"status":5`, `"status":"E_NOTHING"`), 3, nil, "there is no status"},
		"response and fault":      {change(`"status":5`, `"status":5,"fault":{"status":5}`), 3, nil, "both"},
		"reader fails":            {"", 3, errReader, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r io.Reader = strings.NewReader(test.text)
			if test.want == errReader {
				r = io.MultiReader(strings.NewReader(headerLine+good), iotest.ErrReader(errReader))
			}
			got, err := ReadAll(r)
			var te *Error
			require.ErrorAs(t, err, &te)
			require.Equal(t, test.line, te.Line)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
			require.ErrorContains(t, err, test.says)
			if test.line == 3 && test.want != ErrNotTranscript {
				require.Len(t, got, 1, "the call before is good")
			}
		})
	}
}

// endless is a line without end.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.read += len(b)
	return len(b), nil
}

func TestTranscriptLineTooLong(t *testing.T) {
	var e endless
	_, err := ReadAll(io.MultiReader(strings.NewReader(headerLine+"\n"), &e))
	require.ErrorIs(t, err, ErrLineTooLong)
	require.ErrorContains(t, err, "line 3")
	require.Less(t, e.read, MaxLine+1<<20)

	// The longest that is read.
	call := `{"time":"2026-11-22T20:21:20Z","opnum":0,"request":{}}`
	long := headerLine + call + strings.Repeat(" ", MaxLine-len(call)-1) + "\n"
	got, err := ReadAll(strings.NewReader(long))
	require.NoError(t, err)
	require.Len(t, got, 1)
	_, err = ReadAll(strings.NewReader(strings.TrimSuffix(long, "\n") + " \n"))
	require.ErrorIs(t, err, ErrLineTooLong)
}

func TestTranscriptStopsReading(t *testing.T) {
	text := write(t, example())
	var e endless
	n := 0
	for _, err := range Read(io.MultiReader(bytes.NewReader(text), &e)) {
		require.NoError(t, err)
		if n++; n == 2 {
			break
		}
	}
	require.Less(t, e.read, 1<<20)
}

func TestWriterErrors(t *testing.T) {
	good := example()[0]
	var b bytes.Buffer
	w := NewWriter(&b)
	for name, e := range map[string]*Exchange{
		"nil":        nil,
		"no request": {Time: epoch},
		"year":       {Time: epoch.AddDate(9000, 0, 0), Request: good.Request},
		"string":     {Time: epoch, Request: &fsrvp.IsPathSupportedRequest{ShareName: "\xff"}},
		"response":   {Time: epoch, Request: good.Request, Response: &fsrvp.SetContextResponse{}},
	} {
		require.Error(t, w.Write(e), name)
		require.Zero(t, b.Len(), name)
	}
	require.NoError(t, w.Write(good))
	got, err := ReadAll(&b)
	require.NoError(t, err)
	require.Equal(t, []*Exchange{good}, got)

	errFull := errors.New("full")
	w = NewWriter(writerFunc(func(b []byte) (int, error) { return len(b) / 2, errFull }))
	require.ErrorIs(t, w.Write(good), errFull)
	require.ErrorIs(t, w.Write(good), errFull)
	w = NewWriter(writerFunc(func(b []byte) (int, error) { return len(b) / 2, nil }))
	require.ErrorIs(t, w.Write(good), io.ErrShortWrite)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func FuzzRead(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(headerLine))
	f.Add(write(f, example()))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ReadAll(bytes.NewReader(text))
		if err != nil {
			var te *Error
			require.ErrorAs(t, err, &te)
			require.LessOrEqual(t, te.Line, 1+bytes.Count(text, []byte("\n")))
		}
		if len(all) == 0 {
			return
		}
		// What was read can be written, and reads the same; but for times that RFC 3339 has no
		// place for in UTC.
		var b bytes.Buffer
		w := NewWriter(&b)
		kept := all[:0]
		for _, e := range all {
			if err := w.Write(e); err != nil {
				require.ErrorContains(t, err, "year")
				continue
			}
			kept = append(kept, e)
		}
		again, err := ReadAll(&b)
		if len(kept) > 0 {
			require.NoError(t, err)
			require.Equal(t, kept, again)
		}
	})
}

// TestByHand reads what somebody wrote with an editor.
func TestByHand(t *testing.T) {
	text := "# what the server shall answer\n" + headerLine + `
  # first no, then yes
{"time":"2026-11-27T02:00:00Z","method":"CommitShadowCopySet","request":{"ShadowCopySetId":"5c1a0d7e-93b4-4f0e-8a55-0d2f6c1b7e42"},"status":"fssagent_e_timeout"}
{"time":"2026-11-27T02:01:00.5+01:00","opnum":4,"request":{"ShadowCopySetId":"5c1a0d7e-93b4-4f0e-8a55-0d2f6c1b7e42"},"status":"0x0"}
{"time":"2026-11-27T02:02:00Z","method":"GetSupportedVersion","request":{},"status":5}
{"time":"2026-11-27T02:03:00Z","method":"SetContext","request":{"Context":0},"response":{"Return":0},"status":"ZERO"}
`
	calls, err := ReadAll(strings.NewReader(text))
	require.NoError(t, err)
	require.Len(t, calls, 4)
	require.Equal(t, fsrvp.ErrTimeout, calls[0].Response.Status())
	require.Equal(t, fsrvp.OpCommitShadowCopySet, calls[0].Opnum())
	require.True(t, calls[1].Succeeded())
	require.Equal(t, &fsrvp.GetSupportedVersionResponse{Return: 5}, calls[2].Response)
	require.True(t, calls[3].Succeeded())
}
