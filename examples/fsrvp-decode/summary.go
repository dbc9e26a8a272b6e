package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture"
)

// printSummary prints what was found in a file, what could not be decoded, and what to do about it.
func printSummary(w io.Writer, name string, s *capture.Summary) {
	fmt.Fprintf(w, "%s: %s, %s with SMB or RPC, %s with FSRVP.\n", name,
		plural(s.Packets, "packet"), plural(s.Connections, "connection"), plural(s.Associations, "RPC association"))
	fmt.Fprintf(w, "%s: %d failed, %d ended in a fault, %d unanswered; %d could not be decoded in full.\n",
		plural(s.Calls, "call"), s.Failed, s.Faults, s.Unanswered, s.Unreadable)
	if s.Signatures > 0 || s.Tampered > 0 {
		fmt.Fprintf(w, "  %s checked; %s tampered with.\n", plural(s.Signatures, "SMB signature"),
			plural(s.Tampered, "call"))
	}
	if len(s.Others) > 0 {
		kinds := make([]string, len(s.Others))
		for i, o := range s.Others {
			kinds[i] = fmt.Sprintf("%s (%d)", o.Kind, o.Packets)
		}
		fmt.Fprintf(w, "  Packets without TCP: %s.\n", strings.Join(kinds, ", "))
	}
	if s.Connections == 0 && len(s.Problems) == 0 {
		fmt.Fprintf(w, "  %s of TCP, none of them to a port of SMB or with RPC in it.\n", plural(s.TCP, "packet"))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "  %v.", p)
		if h := hint(p.Reason); h != "" {
			fmt.Fprint(w, " "+h)
		}
		fmt.Fprintln(w)
	}
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// hint returns advice for a reason.
func hint(r capture.Reason) string {
	switch r {
	case capture.ErrLinkType:
		return "Record on an Ethernet or loopback interface, or convert the file."
	case capture.ErrFragment:
		return "Record every packet; some of the fragments are missing, or overlap."
	case capture.ErrLost:
		return "Record with a larger buffer (tcpdump -B), near the server."
	case capture.ErrCut:
		return "Record whole packets (tcpdump -s 0)."
	case capture.ErrMidstream, capture.ErrOrphan:
		return "Begin to record before the client connects."
	case capture.ErrDialect:
		return "SMB 1 and compressed messages are not read; switch SMB compression off to record."
	case capture.ErrEncrypted, capture.ErrSealed:
		return "The file server's keytab (-keytab) opens what Kerberos has protected, or the client's tickets (-ccache); the account's password " +
			"(-password-file) what NTLM has, if the capture has the session's beginning."
	case capture.ErrKey:
		return "Export the file server's keytab again, or check the password: either may be another one than when the capture was made."
	case capture.ErrTampered:
		return "Somebody, or a faulty device, changes packets between client and server; or the capture is damaged."
	case capture.ErrRefused:
		return "The server has no FSRVP, or not in the transfer syntax that the client offered."
	}
	return ""
}
