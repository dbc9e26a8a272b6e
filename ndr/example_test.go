package ndr_test

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A structure of an id and two pointers to strings: the referents are in it, the strings follow it.
//
//	struct { GUID id; [string] wchar_t *name; [string] wchar_t *comment; };
func Example() {
	var id [16]byte
	name, comment := ndr.StringOf("vms"), ndr.NullString{}

	e := ndr.NewEncoder(nil, ndr.NDR64)
	e.GUID(id)
	e.Pointer(name.Valid)
	e.Pointer(comment.Valid)
	if name.Valid {
		e.WString(name.String)
	}
	if comment.Valid {
		e.WString(comment.String)
	}
	stub, err := e.Bytes()
	fmt.Println(len(stub), err)

	d := ndr.NewDecoder(stub, ndr.NDR64)
	id = d.GUID()
	name.Valid, comment.Valid = d.Pointer(), d.Pointer()
	if name.Valid {
		name.String = d.WString()
	}
	if comment.Valid {
		comment.String = d.WString()
	}
	fmt.Println(name.String, comment.Valid, d.Err())
	// Output:
	// 64 <nil>
	// vms false <nil>
}

// A peer says that 4 billion numbers follow, and sends two: the Decoder does not believe it.
func ExampleDecoder_Count() {
	d := ndr.NewDecoder([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 2, 0, 0, 0}, ndr.NDR20)
	numbers := make([]uint32, d.Count(4))
	for i := range numbers {
		numbers[i] = d.Uint32()
	}
	fmt.Println(len(numbers), d.Err())
	// Output:
	// 0 ndr: bad stub data: count at offset 0: 4294967295 elements in 8 bytes
}
