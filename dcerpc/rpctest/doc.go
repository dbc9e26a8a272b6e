// Package rpctest tests servers and clients of connection-oriented DCE/RPC (C706, MS-RPCE) by
// conversations in single PDUs, legal ones or not: binds, presentation and security contexts,
// fragments, auth trailers, header signing, faults, cancels.
//
// [Scripts] are the conversations for servers. A [Target] says how to reach a server and what is
// known of it: an interface, what some of its operations do, the mechanisms that log in. Nothing of
// the server itself is needed: every server has the management interface, whose operations
// [MgmtOperations] describes. Scripts that need more than the target has are not applicable.
// [ClientScripts] are conversations for clients: there the script plays the server, and a
// [ClientTarget] the client.
//
// What is right where the standards leave a choice, or are not followed, is a matter of the
// [Profile]: [Windows2022] is what Windows Server 2022 does to the field, [Standard] what the text
// demands.
//
// # Scripts
//
// Scripts are kept in txtar archives (golang.org/x/tools/txtar: text files in one, each after a
// line "-- name --"), since a conversation is a few lines, and a file for each of some hundreds
// would be hard to read. A script is made of lines. Those that begin with # are comments; a line
// that begins with a space goes on with the last one. First comes what the script is:
//
//	rule: C706 9.3.1: what is demanded, and where       (always)
//	profile: windows2022                                (the script is for these profiles only)
//	server: security_contexts=2                         (how the server must be set)
//
// Then come the steps, one PDU in a line: what is sent, with >, and what is expected, with <.
//
//	> bind max_recv_frag=2048
//	< bind_ack assoc_group_id=?group p_result=acceptance:ndr20
//	> request opnum=$call stub="abc"
//	[windows2022] < fault status=nca_s_proto_error pfc_flags=+DID_NOT_EXECUTE
//	[windows2022] < end
//	[standard] < refused
//
// A step after [PROFILE] is for that profile alone. Besides PDUs there can be sent
//
//	> hex 05000b03 10000000     bytes as they are
//	> raw ptype=99 body=zeros(8)
//	                            a PDU of any type
//	> again                     the last PDU, byte by byte the same
//
// and expected
//
//	< hex 0500 .. 03 *          bytes: .. is any byte, * any number of them
//	< end                       the orderly end of the connection
//	< nothing 50ms              silence for so long
//	< refused                   a fault, a bind_nak or the end of the connection, orderly or not
//
// The setting rules=go-fsrvp is for rules that neither the standards nor Windows are known to have.
//
// # Fields
//
// Fields have the names of the standard:
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
// A field that is sent and not named has the value that a plain PDU has: the flags FIRST and LAST,
// a new call_id (later fragments, auth3 and cancels have that of what they belong to), lengths as
// they are, one context of the interface main in NDR 2.0. rpc_vers, ptype, frag_length, auth_length
// and n_context_elem may be sent with values that are not true. Of fields that are expected and not
// named, call_id is compared with that of the last PDU that was sent, there must be no auth
// trailer, and in the profile windows2022 the fields of faults and responses have the values that
// Windows sends. A PDU that a client sends is only compared in the fields that are named.
//
// Further instructions to what is sent: cut=25 sends the first 25 bytes only, times=3 sends as many
// copies in one write, write=later sends the PDU in one write with the next one, write=dribble
// sends byte by byte, @24=00ff replaces bytes at an offset, and @-1^=01 changes their bits; a
// negative offset counts from the end. verification=bitmask1:0,pcontext:main:ndr20,header2 adds a
// verification trailer to a stub (MS-RPCE 2.2.2.13), in which header2:7 lies about the opnum, and
// command:9 and must:9 are unknown commands. To what is expected: fragments=any takes a response in
// any number of fragments as one.
//
// # Values
//
// Numbers are decimal or 0x hexadecimal, or names: FIRST|LAST, nca_s_proto_error, privacy, ntlm.
// They may be added and subtracted. pfc_flags=+MAYBE adds to the default. Bytes are "text" with
// Go's escapes, hex:0102, zeros(9), fill("0123",9), u16(1), u32(1), and sums of them; answer("x")
// is what the target's operation call answers to a stub. A p_cont_elem is
// ID:INTERFACE:SYNTAX+SYNTAX, and there are as many as contexts, or p_cont_elem=none; interfaces
// are main, other, secure and unknown, syntaxes ndr20, ndr64 and features(3), both also
// UUID/MAJOR.MINOR, and main/1.7 is main with another version. A p_result is acceptance:SYNTAX,
// provider_rejection:REASON or negotiate_ack:FEATURES.
//
// What is expected may also be * for anything, != >= <= in place of =, ?name, which keeps the value
// as $name, and ??name, which demands one that name has not had before. These variables are the
// target's:
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
