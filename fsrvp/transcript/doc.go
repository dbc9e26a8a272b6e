// Package transcript defines a file format for recorded FSRVP calls. A [Recorder] writes the calls
// of any [fsrvp.Service], a [Writer] those of other sources, such as a packet capture; [Read] and
// [ReadAll] read them. Package replay plays them again.
//
// # Format
//
// A transcript is JSON, one object a line, each line ended by a newline. The first line is a
// header:
//
//	{"format":"fsrvp-transcript","version":1}
//
// The header may occur again later, so transcripts can be concatenated. Every other line is one
// call, written after the call has ended (overlapping calls may be in either order), with these
// members:
//
//	time            when the request was sent or arrived: RFC 3339, UTC, always nine digits of a second
//	response_time   when the answer arrived or was sent, in the same form; null without an answer
//	client          the client's address, "10.99.0.3:57978"; "" if unknown, also below
//	server          the server's address or name
//	user            the caller: the Kerberos principal, DOMAIN\account, or an account alone
//	mechanism       of the call's security: "krb5", "ntlm", "smb"
//	auth_level      of the call's security, a number of MS-RPCE 2.2.1.1.8; 0 if unknown
//	opnum, method   the method's number, and its name in MS-FSRVP 3.1.4
//	request         the parameters by their names in the IDL (MS-FSRVP 6), in the JSON form of fsrvp.Message:
//	                GUIDs are strings, numbers and BOOLs numbers, NULL is null, a FILETIME is a number of 100 ns
//	response        the results in the same form, with the status as Return; null without a readable response
//	status          the same as Return; null without a readable response
//	status_name     its name in the standard, for people
//	fault           if RPC answered with a fault: {"status":5,"name":"...","did_not_execute":false}; else absent
//	response_error  a sentence: why there is neither response nor fault, or the server's reason for an E_FAIL; else absent
//
// Readers ignore members that are not in this list, and names of statuses and faults; client,
// server, user, mechanism, auth_level, status, and either opnum or method may be absent. Apart from
// the header and times with nine digits, this is a subset of the JSON form of a capture.Call. If
// the meaning of a member changes, so does the version.
//
// # Writing by hand
//
// A transcript can be edited by hand, to change a server's answers, to leave out calls, or to write
// the script of a test. Lines that begin with # are comments. Times may have any number of digits,
// and need not be in order. A failure needs no response, only its status, which may be a name or a
// number. So this is a complete call, although it must be written in one line:
//
//	# the commit takes too long
//	{"time":"2026-11-27T02:00:03Z","response_time":"2026-11-27T02:01:03Z","method":"CommitShadowCopySet",
//	 "request":{"ShadowCopySetId":"5c1a0d7e-93b4-4f0e-8a55-0d2f6c1b7e42","TimeOutInMilliseconds":60000},"status":"FSSAGENT_E_TIMEOUT"}
//
// If both Return and status are present, they must be the same.
//
// A transcript contains names of servers, shares and accounts, but no passwords, keys, tickets or
// stubs.
package transcript
