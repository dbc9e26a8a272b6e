package samba

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// everyone is the security descriptor of shares that have none, full access for all. Releases of
// sharesec show it in two ways: up to 4.17 as here, and as D:(A;;FA;;;WD).
const everyone = "D:(A;;0x001f01ff;;;WD)"

// isEveryone reports whether a security descriptor is that of shares that have none.
func isEveryone(sddl string) bool {
	d, err := decodeSDDL(sddl)
	return err == nil && slices.Equal(d, everyoneDecoded)
}

var everyoneDecoded = func() []string {
	d, err := decodeSDDL(everyone)
	if err != nil {
		panic(err) // the constant is wrong
	}
	return d
}()

// decodeSDDL returns the parts of a security descriptor's text form (MS-DTYP 2.5.1), each in one
// spelling: the owner, the group, and for each list its flags and its entries, with rights as a
// number and well-known SIDs in full. It is for comparing them: what it does not know it leaves as
// it is.
func decodeSDDL(sddl string) ([]string, error) {
	var parts []string
	for rest := strings.TrimSpace(sddl); rest != ""; {
		if len(rest) < 2 || rest[1] != ':' || !strings.ContainsRune("OGDS", rune(rest[0])) {
			return nil, fmt.Errorf("samba: %q is no security descriptor", sddl)
		}
		kind, value := rest[:2], rest[2:]
		// Values end before the next letter with a colon that is in no entry.
		end, depth := len(value), 0
		for i := range len(value) {
			switch c := value[i]; {
			case c == '(':
				depth++
			case c == ')':
				depth--
			case depth == 0 && i+1 < len(value) && value[i+1] == ':' && strings.ContainsRune("OGDS", rune(c)):
				end = min(end, i)
			}
		}
		value, rest = value[:end], value[end:]
		if kind == "O:" || kind == "G:" {
			parts = append(parts, kind+fullSID(value))
			continue
		}
		flags, entries, _ := strings.Cut(value, "(")
		parts = append(parts, kind+flags)
		for entry := range strings.SplitSeq(strings.TrimSuffix(entries, ")"), ")(") {
			fields := strings.Split(entry, ";")
			if entry == "" {
				continue
			}
			if len(fields) < 6 || strings.ContainsAny(entry, "()") && len(fields) == 6 {
				return nil, fmt.Errorf("samba: %q is no entry of a security descriptor", entry)
			}
			fields[2], fields[5] = decodeRights(fields[2]), fullSID(fields[5])
			parts = append(parts, strings.Join(fields, ";"))
		}
	}
	return parts, nil
}

// rightsOf are the rights that SDDL has two letters for (MS-DTYP 2.5.1.1), for files.
var rightsOf = map[string]uint32{
	"GA": 0x10000000, "GX": 0x20000000, "GW": 0x40000000, "GR": 0x80000000,
	"RC": 0x20000, "SD": 0x10000, "WD": 0x40000, "WO": 0x80000,
	"CC": 0x1, "DC": 0x2, "LC": 0x4, "SW": 0x8, "RP": 0x10, "WP": 0x20, "DT": 0x40, "LO": 0x80, "CR": 0x100,
	"FA": 0x1f01ff, "FR": 0x120089, "FW": 0x120116, "FX": 0x1200a0,
	"KA": 0xf003f, "KR": 0x20019, "KW": 0x20006, "KX": 0x20019,
}

// decodeRights returns rights as a hexadecimal number.
func decodeRights(text string) string {
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return fmt.Sprintf("%#x", n)
	}
	var mask uint32
	for i := 0; i < len(text); i += 2 {
		right, ok := rightsOf[strings.ToUpper(text[i:min(i+2, len(text))])]
		if !ok {
			return text
		}
		mask |= right
	}
	return fmt.Sprintf("%#x", mask)
}

// fullSID returns a SID in full where it is one of those of every machine that have two letters.
func fullSID(text string) string {
	switch strings.ToUpper(text) {
	case "WD":
		return "S-1-1-0"
	case "CO":
		return "S-1-3-0"
	case "CG":
		return "S-1-3-1"
	case "AN":
		return "S-1-5-7"
	case "AU":
		return "S-1-5-11"
	case "SY":
		return "S-1-5-18"
	case "BA":
		return "S-1-5-32-544"
	case "BU":
		return "S-1-5-32-545"
	case "BG":
		return "S-1-5-32-546"
	case "BO":
		return "S-1-5-32-551"
	}
	return strings.ToUpper(text)
}
