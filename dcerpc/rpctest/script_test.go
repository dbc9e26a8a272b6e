package rpctest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/echoserver"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script parses one script of some lines.
func script(t *testing.T, lines ...string) *rpctest.Script {
	t.Helper()
	all, err := rpctest.Parse("test.txtar", []byte("comment\n\n-- one --\nrule: none\n"+strings.Join(lines, "\n")))
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

// TestSyntaxErrors has every kind of mistake; the error names file, line and script.
func TestSyntaxErrors(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"> bnd", "no PDU"},
		{"< bnd", "no PDU"},
		{"< raw", "no PDU"},
		{">", "the PDU is missing"},
		{"<", "what is expected is missing"},
		{"bind", "no line begins with"},
		{"> bind call_id", "NAME=VALUE"},
		{"> bind =1", "NAME=VALUE"},
		{"> bind opnum=1", "no field opnum"},
		{"> bind cut=", "is missing"},
		{"< bind_ack cut=1", "no field cut"},
		{"< bind_ack call_id", "NAME=VALUE"},
		{"> bind call_id=one", "neither a number nor a name"},
		{"> bind call_id=0x100000000", "neither a number nor a name"},
		{"> bind call_id=1 call_id=2", "there twice"},
		{"> bind call_id=?id", "only what is expected can be captured"},
		{"> bind call_id=*", "only what is expected may be anything"},
		{"> bind call_id!=1", "cannot stand"},
		{"< response stub<=\"x\"", "cannot stand"},
		{"> bind call_id=+1", "only pfc_flags"},
		{"> request stub=1", "not bytes"},
		{"> request stub=\"x", "not closed"},
		{"> request stub=\"\\q\"", "bad quoted text"},
		{"> request stub=zeros(x)", "neither a number nor a name"},
		{"> request stub=zeros(1", "not closed"},
		{"> request stub=fill(\"x\")", "has 2 arguments"},
		{"> request stub=foo(1)", "no function"},
		{"> request opnum=zeros(1)", "gives bytes"},
		{"> request stub=\"x\"-\"y\"", "can only be joined"},
		{"> request stub=hex:123", "odd length"},
		{"> request stub=\"x\")", "after the expression"},
		{"> request opnum=$nothing", "nothing before has captured it"},
		{"> request stub=$call", "$call is a number"},
		{"< response stub=?call", "is the target's"},
		{"< response stub=?a-b", "not a name of a variable"},
		{"> request opnum=" + strings.Repeat("1+", 100) + "1", "terms"},
		{"> request stub=" + strings.Repeat("answer(", 100), "terms"},
		{"> request auth=1", "no security context 1"},
		{"> bind write=never", "write is one of"},
		{"> bind p_cont_elem=0:main", "ID:INTERFACE:SYNTAX"},
		{"> bind p_cont_elem=0:foo:ndr20", "not an interface or syntax"},
		{"> bind p_cont_elem=0:main/1.x:ndr20", "MAJOR.MINOR"},
		{"> bind p_cont_elem=0:main/x:ndr20", "MAJOR.MINOR"},
		{"> bind p_cont_elem=0:main:features(x)", "features(3)"},
		{"> bind p_cont_elem=0:main:71710533-beba-4937-8319-b5dbef9ccc36", "not an interface or syntax"},
		{"> bind p_cont_elem=0:main:" + strings.Repeat("ndr20+", 255) + "ndr20", "more than 255"},
		{"< bind_ack p_result=yes", "a result is"},
		{"< bind_ack p_result=acceptance:main", "a result is"},
		{"< bind_ack p_result=provider_rejection:why", "a result is"},
		{"< bind_ack p_result=negotiate_ack:x", "a result is"},
		{"< bind_ack p_result=maybe:1", "a result is"},
		{"> request @x=00", "@OFFSET"},
		{"> request @1=0", "hexadecimal"},
		{"< response @1=00", "@OFFSET"},
		{"> request verification=header3", "none of bitmask1"},
		{"> request verification=header2:x", "invalid syntax"},
		{"> request verification=pcontext:foo:ndr20", "not an interface or syntax"},
		{"> hex 0", "pairs of digits"},
		{"> hex", "pairs of digits"},
		{"< hex 0", "pairs of digits or dots"},
		{"< hex zz", "pairs of digits or dots"},
		{"< hex", "no bytes"},
		{"> again 1", "stands alone"},
		{"< end 1", "stands alone"},
		{"close 1", "stands alone"},
		{"< nothing", "a duration"},
		{"< nothing 1h", "not a duration"},
		{"eventually x", "not a duration"},
		{"use 2", "the name of a connection"},
		{"connect", "followed by a name"},
		{"connect 2 3", "via=DIALER"},
		{"connect 2 via=", "via=DIALER"},
		{"security", "auth_context_id is missing"},
		{"security x", "not an auth_context_id"},
		{"security 1 opnum=1", "no field opnum"},
		{"for 1 2 3", "followed by a name"},
		{"for i 1", "followed by a name"},
		{"for i x 1", "neither a number"},
		{"for i 1 x", "neither a number"},
		{"for call 1 2", "is the target's"},
		{"for i 1 2", "without its done"},
		{"done", "without its for"},
		{"for i 1 2\nfor j 1 2\nfor k 1 2\nfor l 1 2", "blocks in each other"},
		{"[nobody] < end", "no profile"},
		{"[standard]", "nothing after the profile"},
		{"start connect", "no line begins with"},
		{"rule: again", "second rule"},
		{"profile: x", "no profile"},
		{"server: x", "NAME=VALUE"},
		{"server: x=\"", "not closed"},
		{strings.Repeat("> bind\n", 2001), "more than 2000 lines"},
		{"# nothing", "nothing is sent or expected"},
	} {
		_, err := rpctest.Parse("dir/test.txtar",
			[]byte("comment\n-- first --\nrule: r\n> bind\n-- one --\nrule: none\n"+test.line+"\n"))
		var bad *rpctest.SyntaxError
		require.ErrorAs(t, err, &bad, test.line)
		require.ErrorContains(t, err, test.want, test.line)
		require.Equal(t, "test/one", bad.Script)
		require.Equal(t, "dir/test.txtar", bad.File)
		require.GreaterOrEqual(t, bad.Line, 5)
	}
	_, err := rpctest.Parse("x", []byte("-- one --\n> bind\n"))
	require.ErrorContains(t, err, "no rule")
	_, err = rpctest.Parse("x", []byte("-- one --\nrule: r\n> bind\n-- one --\nrule: r\n> bind\n"))
	require.ErrorContains(t, err, "is taken")
	for _, test := range []struct{ line, want string }{
		{"start", "followed by"},
		{"start 1", "followed by"},
		{"start 1 fly", "followed by"},
		{"start a-b call", "followed by"},
		{"start connect syntaxes=ndr65", "none of ndr20"},
		{"start connect level=what", "neither a number"},
		{"start 1 call timeout=x", "not a duration"},
		{"start 1 call depth=1", "no field depth"},
		{"start 1 close now=1", "no field now"},
		{"start 1 call\nstart 1 call", "was started before"},
		{"result 1 ok", "followed by a name"},
		{"start 1 call\nresult 1 fine", "none of ok"},
		{"start 1 call\nresult 1 closed stub=\"\"", "no field stub"},
		{"bound", "no line begins with"},
	} {
		_, err := rpctest.ParseClient("x", []byte("-- one --\nrule: none\n"+test.line+"\n"))
		require.ErrorContains(t, err, test.want, test.line)
	}
}

// TestMismatch plays scripts that our server does not satisfy. The error names the script, the
// line, the field, and the PDU.
func TestMismatch(t *testing.T) {
	for _, test := range []struct {
		lines []string
		want  string
	}{
		{[]string{"> bind", "", "< bind_nak"},
			`test.txtar:7: script test/one, "< bind_nak": the answer is a bind_ack acceptance:ndr20, ` +
				`want a PDU bind_nak; the PDU is 05000c03`},
		{[]string{"> bind", "< bind_ack max_recv_frag=1"}, "max_recv_frag is 5840, want 1; the PDU is"},
		{[]string{"> bind", "< bind_ack max_recv_frag<=9"}, "max_recv_frag is 5840, want <= 9"},
		{[]string{"> bind", "< bind_ack max_recv_frag>=9999"}, "max_recv_frag is 5840, want >= 9999"},
		{[]string{"> bind", "< bind_ack max_recv_frag!=5840"}, "max_recv_frag is 5840, want != 5840"},
		{[]string{"> bind", "< bind_ack call_id=9"}, "call_id is 1, want 9"},
		{[]string{"> bind", "> bind", "< bind_ack"}, "call_id is 1, want 2, its default"},
		{[]string{"> bind", "< bind_ack sec_addr=\"x\""}, `sec_addr is "server\x00", want "x"`},
		{[]string{"> bind", "< bind_ack p_result=acceptance:ndr64"},
			"p_result is acceptance:ndr20, want acceptance:ndr64"},
		{[]string{"> bind", "< bind_ack p_result=none"}, "p_result is acceptance:ndr20, want none"},
		{[]string{"> bind", "< bind_ack pfc_flags=+CONC_MPX"}, "pfc_flags is FIRST|LAST, want FIRST|LAST|CONC_MPX"},
		{[]string{"> bind", "< end"}, "the answer is a bind_ack acceptance:ndr20, want the end of the connection"},
		{[]string{"> bind", "< nothing 10s"}, "want nothing within 10s"},
		{[]string{"> bind", "< refused"}, "the answer is a bind_ack acceptance:ndr20, want a refusal"},
		{[]string{"< refused"}, "the answer is silence, want a refusal"},
		{[]string{"> bind", "< hex 05"}, "the PDU is 05000c03"},
		{[]string{"> bind", "< hex 05 .. * 0001"}, "want 05..*0001"},
		{[]string{"< bind_ack"}, "the answer is silence, want a PDU bind_ack"},
		{[]string{"> bind ptype=99", "< bind_ack"}, "the answer is the end of the connection, want a PDU bind_ack"},
		{[]string{"bound", "> request opnum=99", "< response"},
			"the answer is a fault nca_s_op_rng_error (call_id 2, p_cont_id 0, " +
				"FIRST|LAST|DID_NOT_EXECUTE), want a PDU response"},
		{[]string{"bound", "> request opnum=99", "< fault"},
			"pfc_flags is FIRST|LAST|DID_NOT_EXECUTE, want FIRST|LAST, its default"},
		{[]string{"bound", "> request opnum=99", "< fault pfc_flags=* status=nca_s_unk_if"},
			"status is nca_s_op_rng_error (0x1c010002), want nca_s_unk_if (0x1c010003)"},
		{[]string{"bound", "> request stub=\"abc\"", "< response stub=\"abd\""}, `stub is "abc", want "abd"`},
		{[]string{"bound", "> request stub=\"abc\"", "< response stub!=\"abc\""}, `stub is "abc", want != "abc"`},
		{[]string{"bound", "> request stub=hex:01", "< response stub=zeros(100)"}, "stub is hex:01, want"},
		{[]string{"bound", "for i 1 2", "> request call_id=5", "< response call_id=??id", "done"},
			"call_id is 5 again"},
		{[]string{"bound", "> request auth_type=ntlm auth_level=privacy auth_value=\"x\"", "< response"},
			"the answer is a fault ERROR_ACCESS_DENIED"},
		{[]string{"secured 1", "> request auth=1", "< response"}, "the auth trailer is there, want none"},
		{[]string{"secured 1", "> request", "< response auth=1"}, "the auth trailer is not there"},
		{[]string{"secured 1 level=integrity", "security 2", "> request auth=1", "< response auth=2"},
			"auth_level is 5, want 6"},
		{[]string{"secured 1", "> bind auth=1", "> request opnum=$call-1"}, "is negative"},
		{[]string{"bound", "> request stub=zeros(9999999)"}, "the most is"},
		{[]string{"bound", "> request p_cont_id=65536"}, "does not fit into 16 bits"},
		{[]string{"bound", "> request @99=00"}, "outside of the PDU"},
		{[]string{"bound", "> request object=\"x\""}, "16 bytes"},
		{[]string{"bound", "> request cut=99"}, "more than the PDU's"},
		{[]string{"bound", "> request times=9999"}, "too much"},
		{[]string{"> again"}, "nothing was sent"},
		{[]string{"for i 1 9999", "> again", "done"}, "more than 5000 times"},
		{[]string{"bound", "eventually 5ms", "> request", "< fault"}, "want a PDU fault"},
		{[]string{"[standard] < end", "bound", "> request opnum=99", "< fault status=5"}, "want ERROR_ACCESS_DENIED"},
	} {
		s, err := echoserver.Start(nil, echoserver.Toys())
		require.NoError(t, err)
		target := s.Target()
		target.Timeout = 20 * time.Millisecond
		res := script(t, test.lines...).Run(t.Context(), target)
		require.Equal(t, rpctest.Failed, res.Verdict, test.lines)
		require.ErrorContains(t, res.Err, test.want)
		require.ErrorContains(t, res.Err, "test.txtar:")
		require.ErrorContains(t, res.Err, "script test/one")
		require.NoError(t, s.Close())
	}
}

// TestNotApplicable gives targets that lack what scripts need.
func TestNotApplicable(t *testing.T) {
	server, err := echoserver.Start(nil, echoserver.Toys())
	require.NoError(t, err)
	defer server.Close()
	full := server.Target()
	bare := &rpctest.Target{Dial: full.Dial, Main: full.Main,
		Operations: rpctest.Operations{Call: full.Operations.Call}}
	require.Equal(t, rpctest.Passed, script(t, "bound", "alive").Run(t.Context(), bare).Verdict, "any answer will do")
	for line, want := range map[string]string{
		"> request opnum=$echo":                       "does not know $echo",
		"> request stub=answer($sec_addr)":            "does not know $sec_addr",
		"> bind p_cont_elem=0:other:ndr20":            "no interface other",
		"> bind p_cont_elem=0:secure:ndr20":           "no interface secure",
		"connect 2 via=elsewhere":                     "no dialer elsewhere",
		"security 1":                                  "no security mechanism",
		"server: calls=1\n> bind":                     "not set to calls=1",
		"profile: standard\n> bind":                   "not for the profile windows2022",
		"> request verification=pcontext:other:ndr20": "no interface other",
	} {
		res := script(t, line).Run(t.Context(), bare)
		require.Equal(t, rpctest.NotApplicable, res.Verdict, line)
		require.Contains(t, res.Reason, want)
	}
	for line, want := range map[string]string{
		"security 1 legs=9":                      "no mechanism with 9 legs",
		"security 1 mechanism=77":                "no mechanism of type 0x4d",
		"for i 1 1\nsecurity 1 ask=packet\ndone": "asks for no more",
	} {
		res := script(t, line).Run(t.Context(), full)
		require.Equal(t, rpctest.NotApplicable, res.Verdict, line)
		require.Contains(t, res.Reason, want)
	}
	set := *full
	set.Settings = map[string]string{"calls": "1"}
	require.Contains(t, script(t, "> bind").Run(t.Context(), &set).Reason, "the server is set to calls")
	require.Contains(t, rpctest.ClientScripts()[0].Run(t.Context(), full).Reason, "for a client")
	require.Contains(t, script(t, "> bind").RunClient(t.Context(), echoserver.Client()).Reason, "for a server")
}

// TestDialFails has a server that cannot be reached, and a caller that has lost patience.
func TestDialFails(t *testing.T) {
	target := &rpctest.Target{Dial: func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }}
	res := script(t, "> bind").Run(t.Context(), target)
	require.Equal(t, rpctest.Failed, res.Verdict)
	require.ErrorIs(t, res.Err, net.ErrClosed)

	server, err := echoserver.Start(nil, echoserver.Toys())
	require.NoError(t, err)
	defer server.Close()
	dial := server.Target().Dial
	ctx, cancel := context.WithCancel(t.Context())
	target = server.Target()
	target.Dial = func(context.Context) (net.Conn, error) { cancel(); return dial(t.Context()) }
	res = script(t, "> bind").Run(ctx, target)
	require.ErrorIs(t, res.Err, context.Canceled)
}

// TestKnown judges results by a list.
func TestKnown(t *testing.T) {
	name := rpctest.Scripts()[0].Name
	known, err := rpctest.ParseKnown("# comment\n\n" + name + "\tsilence\n")
	require.NoError(t, err)
	s := rpctest.Scripts()[0]
	verdict, _ := known.Judge(s, rpctest.Result{Verdict: rpctest.Passed})
	require.Equal(t, rpctest.Failed, verdict, "a listed failure that passes")
	verdict, _ = known.Judge(s, rpctest.Result{Verdict: rpctest.Failed, Reason: "the answer is silence, want"})
	require.Equal(t, rpctest.KnownFailure, verdict)
	verdict, _ = known.Judge(s, rpctest.Result{Verdict: rpctest.Failed, Reason: "another reason"})
	require.Equal(t, rpctest.Failed, verdict)
	verdict, _ = known.Judge(s, rpctest.Result{Verdict: rpctest.NotApplicable})
	require.Equal(t, rpctest.NotApplicable, verdict)
	verdict, _ = known.Judge(rpctest.Scripts()[1], rpctest.Result{Verdict: rpctest.Failed})
	require.Equal(t, rpctest.Failed, verdict)
	_, err = rpctest.ParseKnown("nobody\t")
	require.ErrorContains(t, err, "line 1: no script")
	_, err = rpctest.ParseKnown(name + "\n" + name)
	require.ErrorContains(t, err, "there twice")
	for v, text := range map[rpctest.Verdict]string{
		rpctest.Passed: "pass", rpctest.Failed: "fail", rpctest.NotApplicable: "n/a",
		rpctest.KnownFailure: "known", 77: "verdict 77",
	} {
		require.Equal(t, text, v.String())
	}
}

// TestMgmt runs what can be run against a server of which nothing is known but that it has the
// management interface.
func TestMgmt(t *testing.T) {
	srv := &dcerpc.Server{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() { require.NoError(t, srv.Close()); <-done }()
	target := &rpctest.Target{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		Main: rpctest.Mgmt(), Operations: rpctest.MgmtOperations(),
	}
	passed, _, _ := rpctest.Run(t, target, nil, 4)
	require.Greater(t, passed, 90)
}

// TestClientMismatch plays scripts that our client does not satisfy.
func TestClientMismatch(t *testing.T) {
	start := "start connect\n< bind\n> bind_ack\nresult connect ok\n"
	for _, test := range []struct{ lines, want string }{
		{
			"start connect\n< bind pfc_flags=0\n",
			"pfc_flags is FIRST|LAST|CONC_MPX, want 0",
		},
		{
			"start connect\n< bind p_cont_elem=0:main:ndr20\n",
			"p_cont_elem is 0:main:ndr20 1:main:ndr64 2:main:features(3), want 0:main:ndr20",
		},
		{
			"start connect\n< bind\n> bind_ack\nresult connect closed\n",
			"the result is success, want closed",
		},
		{
			"start connect\n< bind\n> bind_nak\nresult connect ok\n",
			"the result is bind_nak",
		},
		{
			"start connect\n< bind\n> bind_nak\nresult connect bind_nak provider_reject_reason=4\n",
			"provider_reject_reason is reason_not_specified (0x0), want protocol_version_not_supported (0x4)",
		},
		{
			"start connect\n< bind\n> bind_ack\nresult connect ok level=privacy\n",
			"level is none, want privacy",
		},
		{
			"start connect\n< bind\nresult connect ok\n",
			"the result is none after",
		},
		{
			start + "start 1 call stub=\"a\"\n< request\n> response stub=\"b\"\nresult 1 ok stub=\"c\"\n",
			`stub is "b", want "c"`,
		},
		{
			start + "start 1 call\n< request\n> fault status=5\nresult 1 fault status=6\n",
			"status is ERROR_ACCESS_DENIED (0x5), want 0x6",
		},
		{
			start + "start 1 call\n< request\n> fault status=5\nresult 1 fault pfc_flags=+DID_NOT_EXECUTE\n",
			"pfc_flags is FIRST|LAST, want FIRST|LAST|DID_NOT_EXECUTE",
		},
		{
			"start 1 call\n",
			"has not connected",
		},
		{
			"> bind_ack\n",
			"there is no connection yet",
		},
		{
			"start 1 close\n",
			"has not connected",
		},
	} {
		all, err := rpctest.ParseClient("test.txtar", []byte("-- one --\nrule: none\n"+test.lines))
		require.NoError(t, err)
		target := echoserver.Client()
		target.Timeout = 50 * time.Millisecond
		res := all[0].RunClient(t.Context(), target)
		require.Equal(t, rpctest.Failed, res.Verdict, test.lines)
		require.ErrorContains(t, res.Err, test.want)
	}
	target := echoserver.Client()
	target.Acceptor = nil
	all, err := rpctest.ParseClient("test.txtar", []byte("-- one --\nrule: none\nstart connect level=privacy\n"))
	require.NoError(t, err)
	require.Contains(t, all[0].RunClient(t.Context(), target).Reason, "no security mechanism")
}

// TestEveryRuleIsCited looks at the scripts themselves.
func TestEveryRuleIsCited(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range append(rpctest.Scripts(), rpctest.ClientScripts()...) {
		source, what, ok := strings.Cut(s.Rule, ": ")
		require.True(t, ok && what != "", "%s: %s", s.Name, s.Rule)
		require.Regexp(t, `^(C706 (\d+(\.\d+)*|appendix [A-Z])|MS-RPCE \d+(\.\d+)*|Windows.*|go-fsrvp)$`,
			source, s.Name)
		key := s.Name
		if s.Client() {
			key = "client " + key
		}
		require.False(t, seen[key], s.Name)
		seen[key] = true
	}
}

// FuzzParse parses archives. What can be parsed can be run against a target without a server.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"scripts/server", "scripts/client"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
		require.NoError(f, err)
		for _, file := range files {
			b, err := os.ReadFile(file)
			require.NoError(f, err)
			for i, part := range strings.Split(string(b), "\n-- ") {
				if i > 0 {
					f.Add([]byte("-- " + part + "\n"))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 10000 {
			return
		}
		target := &rpctest.Target{Dial: func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }}
		for _, parse := range []func(string, []byte) ([]*rpctest.Script, error){rpctest.Parse, rpctest.ParseClient} {
			scripts, err := parse("fuzz", b)
			if err != nil {
				require.ErrorContains(t, err, "fuzz:")
				continue
			}
			for _, s := range scripts {
				require.NotEmpty(t, s.Rule)
				if !s.Client() {
					res := s.Run(t.Context(), target)
					require.NotEqual(t, rpctest.Passed, res.Verdict)
				}
			}
		}
	})
}

// FuzzRun plays random scripts against our server. Neither side may panic or hang.
func FuzzRun(f *testing.F) {
	for _, s := range []string{
		"bound\nalive\n",
		"> bind\n< bind_ack assoc_group_id=?g\n> request opnum=$echo stub=zeros(9)+u32($g)\n< response fragments=any\n",
		"secured 1 level=privacy\n> request auth=1 @-1^=01\n< refused\n", "> hex 05000b03\nclose\n< end\n",
		"security 1 legs=4\n> bind auth=1 p_cont_elem=none\n< refused\n",
		"for i 1 3\nbound p_cont_elem=1:other:features(3)+ndr64\ndone\n",
		"connect 2 via=endpoint\nuse 1\nreset\n> bind\n", "> raw ptype=3 body=hex:00\n> again\n< hex .. *\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		for _, bad := range []string{"for", "nothing", "eventually", "times", "wait", "hold", "9999"} {
			if strings.Contains(lines, bad) {
				return // takes its time by right
			}
		}
		scripts, err := rpctest.Parse("fuzz", []byte("-- one --\nrule: r\n"+lines))
		if err != nil {
			return
		}
		server, err := echoserver.Start(nil, echoserver.Toys())
		require.NoError(t, err)
		target := server.Target()
		target.Timeout = 5 * time.Millisecond
		for _, s := range scripts {
			res := s.Run(t.Context(), target)
			require.NotZero(t, res.Verdict)
		}
		require.NoError(t, server.Close())
	})
}
