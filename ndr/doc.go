// Package ndr encodes and decodes Network Data Representation, the layout of parameters in DCE/RPC
// calls: NDR 2.0 in both byte orders (C706 chapter 14, MS-RPCE 2.2.4) and NDR64 (MS-RPCE 2.2.5).
//
// An Encoder and a Decoder offer the primitives: integers, GUIDs, counts, conformant-varying
// strings, pointers, discriminants of unions. There are no type descriptions and no reflection; a
// codec is written by hand, in the order of the wire. The primitives hide the differences between
// the three syntaxes, so one codec serves all:
//
//	primitive                NDR20, NDR20BE     NDR64
//	Uint8 ... Uint64, GUID   naturally aligned  the same
//	Uint3264, Count          4 bytes, align 4   8 bytes, align 8
//	Pointer                  4 bytes, align 4   8 bytes, align 8
//	WString, CString         counts of 4 bytes  counts of 8 bytes
//	Discriminant             4 bytes            4 bytes, then padding to the union's alignment
//
// Two rules stay with the codec's author:
//
// Deferral (C706 14.3.12.3): a structure holds the referents of its pointers, and what they point
// to follows the outermost structure or array, in the order of the pointers:
//
//	e.Pointer(name.Valid)
//	e.Uint64(size)
//	if name.Valid {
//		e.WString(name.String)
//	}
//
// A top-level [ref] pointer, such as [in, string] LPWSTR, has no referent at all.
//
// Hoisted conformance (C706 14.3.7.1): if a structure ends with a conformant array, its max_count
// stands before the structure. Read it with Count, and compare it with the count in the structure.
//
// Decoders are safe on hostile input: see [Decoder].
package ndr
