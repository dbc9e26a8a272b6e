// Package interop tests the layers below fsrvp against the real peers of package peers, which they
// may not import themselves. It has nothing but tests.
package interop
