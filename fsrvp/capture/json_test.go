package capture

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// TestJSON pins down the names and types.
func TestJSON(t *testing.T) {
	call := &Call{
		Time: time.Date(2026, 11, 22, 20, 21, 26, 411478762, time.UTC), ResponseTime: time.Date(2026, 11, 22, 20, 21,
			26, 500000000, time.UTC),
		Packet: 57, ResponsePacket: 59,
		Client: netip.MustParseAddrPort("10.99.0.3:39448"), Server: netip.MustParseAddrPort("[fe80::1]:445"),
		OnPipe: true, Pipe: "FssagentRpc", Association: 2, CallID: 9,
		Peer: dcerpc.Peer{
			Identity: dcerpc.Identity{Account: "backup", Domain: "FSRVP", Mechanism: "ntlm"},
			AuthType: dcerpc.AuthNTLM, Level: dcerpc.LevelIntegrity,
			Session: true, SessionIdentity: dcerpc.Identity{Principal: "other@FSRVP.TEST"}, SessionEncrypted: true,
		},
		Syntax: ndr.NDR20BE, Opnum: fsrvp.OpIsPathSupported,
		Request:  &fsrvp.IsPathSupportedRequest{ShareName: `\\fs\share`},
		Response: &fsrvp.IsPathSupportedResponse{Return: fsrvp.Status(0x8004230C)},
	}
	b, err := json.Marshal(call)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"time": "2026-11-22T20:21:26.411478762Z", "response_time": "2026-11-22T20:21:26.5Z", "packet": 57, "response_packet": 59,
		"client": "10.99.0.3:39448", "server": "[fe80::1]:445", "transport": "ncacn_np", "pipe": "FssagentRpc", "association": 2, "call_id": 9,
		"user": "FSRVP\\backup", "session_user": "other@FSRVP.TEST", "mechanism": "ntlm", "auth_type": 10, "auth_level": 5, "smb_encrypted": true,
		"syntax": "ndr20be", "response_syntax": "ndr20", "opnum": 8, "method": "IsPathSupported",
		"request": {"ShareName": "\\\\fs\\share"},
		"response": {"SupportedByThisProvider": 0, "OwnerMachineName": null, "Return": 2147754764},
		"status": 2147754764, "status_name": "FSRVP_E_NOT_SUPPORTED"}`, string(b))

	call = &Call{
		Client: netip.MustParseAddrPort("10.0.0.1:1"), Server: netip.MustParseAddrPort("10.0.0.2:2"), Opnum: 3,
		RequestErr: wrap(ErrStub, errors.New("why")), RequestStub: []byte{0xAB}, ResponseErr: ErrUnanswered,
	}
	b, err = json.Marshal(call)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"time": "0001-01-01T00:00:00Z", "response_time": null, "packet": 0,
		"client": "10.0.0.1:1", "server": "10.0.0.2:2", "transport": "ncacn_ip_tcp", "association": 0, "call_id": 0,
		"user": "", "auth_type": 0, "auth_level": 0, "smb_encrypted": false,
		"syntax": "ndr20", "response_syntax": "ndr20", "opnum": 3, "method": "AddToShadowCopySet",
		"request": null, "request_error": "capture: stub is not a message of its method: why", "request_stub": "ab",
		"response": null, "response_error": "unanswered", "status": null}`, string(b))

	call.ResponseErr, call.Fault = nil, &dcerpc.Fault{Status: pdu.FaultOpRange, DidNotExecute: true}
	b, err = json.Marshal(call)
	require.NoError(t, err)
	require.Contains(t, string(b), `"fault":{"status":469827586,"name":"nca_s_op_rng_error","did_not_execute":true}`)
}

func TestUserName(t *testing.T) {
	require.Equal(t, "a@B", userName(&dcerpc.Identity{Principal: "a@B", Account: "a", Domain: "B"}))
	require.Equal(t, `D\a`, userName(&dcerpc.Identity{Account: "a", Domain: "D"}))
	require.Equal(t, "a", userName(&dcerpc.Identity{Account: "a"}))
	require.Equal(t, "", userName(&dcerpc.Identity{Domain: "D"}))
}

func TestReasons(t *testing.T) {
	for r := ErrLinkType; r <= ErrLimit; r++ {
		require.NotEqual(t, "unknown reason", r.Error())
		err := wrap(r, errors.New("cause"))
		require.ErrorIs(t, err, r)
		require.Equal(t, "cause", cause(err))
	}
	require.Equal(t, "unknown reason", (ErrLimit + 1).Error())
}

func TestSummaryProblems(t *testing.T) {
	var s Summary
	for i := range 300 {
		s.add(Problem{Reason: ErrProtocol, Detail: string(rune('a' + i)), Packet: uint64(i)})
		s.add(Problem{Reason: ErrLost, Packet: 7})
	}
	require.Len(t, s.Problems, maxProblems+1)
	require.Equal(t, uint64(300), s.Problems[1].Count)
	require.Equal(t, ErrLimit, s.Problems[maxProblems].Reason)
	require.Equal(t, uint64(300-(maxProblems-1)), s.Problems[maxProblems].Count)
	p := Problem{Reason: ErrLost, Count: 2, Packet: 3, Client: netip.MustParseAddrPort("10.0.0.1:1"),
		Server: netip.MustParseAddrPort("10.0.0.2:2")}
	require.Equal(t, "missing from the capture (2, first in packet 3, 10.0.0.1:1 to 10.0.0.2:2)", p.String())
}
