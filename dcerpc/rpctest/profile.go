package rpctest

import (
	"slices"
	"strings"
)

// A Profile decides which answer is right where the standards leave a choice or servers deviate
// from them.
type Profile string

// The profiles.
const (
	// Windows2022 is the behaviour of Windows Server 2022, field by field.
	Windows2022 Profile = "windows2022"
	// Standard is what C706 and MS-RPCE require. If they say only that something is an error, any
	// refusal is right.
	Standard Profile = "standard"
)

// Profiles returns all profiles.
func Profiles() []Profile { return []Profile{Windows2022, Standard} }

func (p Profile) known() bool { return slices.Contains(Profiles(), p) }

func profileList() string {
	var all []string
	for _, p := range Profiles() {
		all = append(all, string(p))
	}
	return strings.Join(all, ", ")
}
