package fsrvp

import (
	"strings"

	"github.com/google/uuid"
)

// ExposedName returns the bare name of the share that exposes a shadow copy of share, also a bare
// name: "vms@{id}", and "vms$@{id}$" for a hidden share, as the standard says (MS-FSRVP 3.1.4.6 and
// note 9).
func ExposedName(share string, id CopyID) string {
	name := ExposedNameNoDollar(share, id)
	if strings.HasSuffix(share, "$") {
		name += "$"
	}
	return name
}

// ExposedNameNoDollar is [ExposedName] without the dollar at the end, as Windows was seen to expose
// hidden shares: it adds the dollar only if the client's path of the share ended with a backslash.
func ExposedNameNoDollar(share string, id CopyID) string { return share + "@{" + id.String() + "}" }

// ParseExposedName splits the bare name of a share that exposes a shadow copy, "vms@{id}" or
// "vms$@{id}$", into the share that was copied and the id, whose letters may be of either case. It
// reports false for any other name. The share may itself have such a name: the last id counts.
func ParseExposedName(name string) (share string, id CopyID, ok bool) {
	const size = len("@{f0f1f2f3-e0e1-d8d9-c8c9-cacbcccdcecf}")
	name = strings.TrimSuffix(name, "$")
	at := len(name) - size
	if at <= 0 || name[at:at+2] != "@{" || name[len(name)-1] != '}' {
		return "", CopyID{}, false
	}
	u, err := uuid.Parse(name[at+2 : len(name)-1]) // 36 bytes: only the usual form
	if err != nil {
		return "", CopyID{}, false
	}
	return name[:at], CopyID(u), true
}
