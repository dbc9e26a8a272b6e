// Package transcript has the recorded form of FSRVP calls: [Recorder] writes the calls of any
// [fsrvp.Service], [Writer] those of other sources, such as a packet capture; [Read] and [ReadAll]
// read them. Package replay plays them again.
//
// # Format
//
// A transcript is JSON, one object a line, each line ended by a newline. The first line says what
// it is:
//
//	{"format":"fsrvp-transcript","version":1}
//
// It may occur again later, so that transcripts can be joined. Every other line is one call,
// written when the call had ended (of calls that overlapped either may be first), with these
// members:
//
//	time            when the request was sent or came: RFC 3339, UTC, always nine digits of a second
//	response_time   when the answer came or was sent, in the same form; null without an answer
//	client          the client's address, "10.99.0.3:57978"; "" where it is not known, and so below
//	server          the server's address or name
//	user            the caller: the Kerberos principal, DOMAIN\account, or an account alone
//	mechanism       of the call's security: "krb5", "ntlm", "smb"
//	auth_level      of the call's security, a number of MS-RPCE 2.2.1.1.8; 0 where it is not known
//	opnum, method   the method's number, and its name in MS-FSRVP 3.1.4
//	request         the parameters by their names in the IDL (MS-FSRVP 6), as fsrvp.Message has them in JSON:
//	                GUIDs are strings, numbers and BOOLs numbers, NULL is null, a FILETIME is a number of 100 ns
//	response        the results in the same form, with the status as Return; null without a readable response
//	status          Return again; null without a readable response
//	status_name     its name in the standard, for readers' eyes
//	fault           where RPC answered with a fault: {"status":5,"name":"...","did_not_execute":false}; else absent
//	response_error  a sentence: why there is neither response nor fault, or what the server knew of its E_FAIL; else absent
//
// Members that are not in this list are ignored, and "name"s are not read; client, server, user,
// mechanism, auth_level, status, and either of opnum and method may be absent. Apart from a header
// and times with nine digits, this is a subset of the JSON form of a capture.Call. Another meaning
// of a member will have another version.
//
// # By hand
//
// An editor is enough to change what a server shall have answered, to leave calls out, or to write
// a test's script. Lines that begin with # are comments. Times may have any number of digits, and
// need not be in order. A failure needs no response: its status is enough, which may be a name or a
// number, so that this is a whole call:
//
//	# the commit takes too long
//	{"time":"2026-11-27T02:00:03Z","response_time":"2026-11-27T02:01:03Z","method":"CommitShadowCopySet",
//	 "request":{"ShadowCopySetId":"5c1a0d7e-93b4-4f0e-8a55-0d2f6c1b7e42","TimeOutInMilliseconds":60000},"status":"FSSAGENT_E_TIMEOUT"}
//
// but in one line. Where there are both, Return and status must be the same.
//
// A transcript holds names of servers, shares and accounts, but no passwords, keys or tickets, and
// no stubs.
package transcript
