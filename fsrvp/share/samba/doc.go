// Package samba exposes copies as registry shares of the Samba on this machine.
package samba
