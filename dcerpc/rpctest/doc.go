// Package rpctest tests servers and clients of connection-oriented DCE/RPC (C706, MS-RPCE) with
// conversations of single PDUs, legal or not: binds, presentation and security contexts, fragments,
// auth trailers, header signing, faults, cancels.
//
// [Scripts] returns the conversations for servers. A [Target] says how to reach a server and
// describes it: an interface, what some of its operations do, the mechanisms for log-on. The server
// needs no special interface: every server has the management interface, whose operations
// [MgmtOperations] describes. Scripts that need more than the target has are not applicable.
// [ClientScripts] returns the conversations for clients: the script plays the server, and a
// [ClientTarget] is the client.
//
// The standards leave choices, and servers deviate from them. The [Profile] decides which answer is
// right: [Windows2022] is the behaviour of Windows Server 2022, field by field, and [Standard] is
// what the text requires.
//
// # Scripts
//
// Scripts are kept in txtar archives (golang.org/x/tools/txtar: text files in one, each after a
// line "-- name --"), since a conversation is a few lines long and some hundreds of files would be
// hard to read. A script consists of lines. Lines that begin with # are comments; a line that
// begins with a space continues the line before. The first lines describe the script:
//
//	rule: C706 9.3.1: what is demanded, and where       (always)
//	profile: windows2022                                (the script is for these profiles only)
//	server: security_contexts=2                         (how the server must be set)
//
// Then come the steps, one PDU a line: > sends a PDU, < expects one.
//
//	> bind max_recv_frag=2048
//	< bind_ack assoc_group_id=?group p_result=acceptance:ndr20
//	> request opnum=$call stub="abc"
//	[windows2022] < fault status=nca_s_proto_error pfc_flags=+DID_NOT_EXECUTE
//	[windows2022] < end
//	[standard] < refused
//
// A step after [PROFILE] is for that profile only. Besides PDUs, a script can send
//
//	> hex 05000b03 10000000     bytes as they are
//	> raw ptype=99 body=zeros(8)
//	                            a PDU of any type
//	> again                     the last PDU, byte by byte the same
//
// and expect
//
//	< hex 0500 .. 03 *          bytes: .. is any byte, * any number of them
//	< end                       the orderly end of the connection
//	< nothing 50ms              silence for so long
//	< refused                   a fault, a bind_nak or the end of the connection, orderly or not
//
// The setting rules=go-fsrvp is for rules of this module that are not known from the standards or
// Windows.
//
// # Fields
//
// Fields have the standard's names:
//
//	all PDUs             rpc_vers rpc_vers_minor ptype pfc_flags packed_drep frag_length
//	                     auth_length call_id auth_type auth_level auth_pad auth_pad_length
//	                     auth_reserved auth_context_id auth_value
//	bind, alter_context  max_xmit_frag max_recv_frag assoc_group_id n_context_elem p_cont_elem
//	bind_ack and alter_context_resp
//	                     max_xmit_frag max_recv_frag assoc_group_id sec_addr p_result
//	bind_nak             provider_reject_reason
//	request              alloc_hint p_cont_id opnum object stub
//	response             alloc_hint p_cont_id cancel_count reserved stub
//	fault                alloc_hint p_cont_id cancel_count fault_flags status stub
//
// In a PDU to send, a field that is not named has its normal value: the flags FIRST and LAST, a new
// call_id (later fragments, auth3 and cancels have that of the PDU that they belong to), true
// lengths, one context of the interface main in NDR 2.0. rpc_vers, ptype, frag_length, auth_length
// and n_context_elem may be sent with false values. In an expected PDU, of the fields that are not
// named, call_id must be that of the last PDU sent, there must be no auth trailer, and in the
// profile windows2022 the fields of faults and responses must have the values that Windows sends.
// In a PDU from a client only the named fields are compared.
//
// Further instructions for sending: cut=25 sends only the first 25 bytes, times=3 sends as many
// copies in one write, write=later sends the PDU in one write with the next one, write=dribble
// sends byte by byte, @24=00ff replaces bytes at an offset, and @-1^=01 changes their bits; a
// negative offset counts from the end. verification=bitmask1:0,pcontext:main:ndr20,header2 adds a
// verification trailer to a stub (MS-RPCE 2.2.2.13), in which header2:7 has a false opnum, and
// command:9 and must:9 are unknown commands. For expecting: fragments=any joins a response of any
// number of fragments.
//
// # Values
//
// Numbers are decimal or 0x hexadecimal, or names: FIRST|LAST, nca_s_proto_error, privacy, ntlm.
// They may be added and subtracted. pfc_flags=+MAYBE adds to the default. Bytes are "text" with
// Go's escapes, hex:0102, zeros(9), fill("0123",9), u16(1), u32(1), and sums of them; answer("x")
// is the answer of the target's operation call to a stub. A p_cont_elem is
// ID:INTERFACE:SYNTAX+SYNTAX, one for each context, or p_cont_elem=none; interfaces are main,
// other, secure and unknown, syntaxes ndr20, ndr64 and features(3), both also UUID/MAJOR.MINOR, and
// main/1.7 is main with another version. A p_result is acceptance:SYNTAX, provider_rejection:REASON
// or negotiate_ack:FEATURES.
//
// An expected value may also be * for anything, ?name, which stores the value as $name, or ??name,
// which also requires a value that name has not had before; != >= <= may replace =. The target
// defines these variables:
//
//	$max_frag $auth_type $account $sec_addr $opnums
//	$call $echo $ndr $short $fault $error $panic $wait $hold $release $waiting $peer
//	                               opnums, see Operations
//	$fault.status $fault.flags
//
// # Other steps
//
//	security 1 level=integrity  a security context with auth_context_id 1: level (by default
//	                            privacy), legs=3 or 4, mechanism=ntlm, and ask=integrity for a
//	                            mechanism that is told another level
//	> bind auth=1               the next token of security context 1, with its type, level
//	                            and id; auth_more="x" adds to the token
//	< bind_ack auth=1           gives the token to the mechanism
//	> request auth=1            protected as the level says, and may then be changed by @
//	< response auth=1           checked and in clear; auth=* is any trailer
//	bound FIELDS                > bind FIELDS, < bind_ack
//	secured 1 level=privacy FIELDS
//	                            a bind and the whole exchange of a security context, of
//	                            however many legs
//	secured 2 alter_context     the same by alter_context
//	exchange 1                  what is left of the exchange of a security context
//	alive auth=1                a call of the operation call, and its answer
//	connect 2 via=elsewhere     another connection, which is used from then on; see
//	                            Target.Dialers
//	use 1                       the first connection again
//	close, reset                end the connection, in order or not
//	for i 1 9 ... done          repeats lines with $i
//	eventually 5s               repeats the rest of the script until it succeeds or the
//	                            time is over
//
// Scripts for clients have no bound, secured, alive, connect and eventually. In place of them:
//
//	start connect level=privacy the client connects; syntaxes=ndr20,ndr64,ndr20be features=no
//	                            multiplexing=no assoc_group_id=7 max_frag=4280 max_response=9
//	start 1 call opnum=0 stub="ping" timeout=1s
//	                            the client calls, while the script goes on
//	start 2 close               the client closes its connection
//	result 1 ok stub="pong"     the end of what was started: ok, fault, bind_nak, rejected,
//	                            protocol, closed, cancelled
package rpctest
