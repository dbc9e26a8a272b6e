// Package samba exposes shadow copies as registry shares of the Samba on this machine. Each is a
// clone of the share that was copied, with its parameters and its share security descriptor, but
// read-only.
//
// It runs Samba's own programs, as root: net, testparm, sharesec, smbcontrol and smbstatus.
// smb.conf has to have shares from the registry enabled, by one of
//
//	registry shares = yes
//	include = registry
//
// # The helper
//
// Most of the time of a program is its start. Where python3-samba is installed, of the programs'
// release and 4.17 or later (Debian's samba depends on it), New starts one process of
// /usr/bin/python3 that changes the registry by its public bindings, all shares of a call in one
// transaction, and has smbd end the use of shares: each of smbd's processes gets the messages that
// smbcontrol sends, and acknowledges them. What that process does not do, or not within
// Config.HelperTimeout, or in a way that leaves a doubt, programs do again from the beginning, and
// the process is killed first and started again after a second or more. [Shares.Helper] counts
// that. Security descriptors of shares are always sharesec's, so a base share that has one costs a
// program for each copy. Config.ProgramsOnly is for those who want no such process; [Shares.Close]
// ends it.
//
// Testparm, and sharesec for the descriptor of a base share, are asked again only when smb.conf, a
// file that it includes, or the databases registry.tdb and share_info.tdb have changed. They are
// asked every time where smb.conf includes files by macros (%m), or where it has shares of users.
//
// # Who may see it
//
// Samba opens an exposed directory as the user who reads it: every directory above it needs the x
// permission for those users. This process has to see smbd's processes: in another PID namespace
// smbstatus takes them for dead, and nobody waits for clients to be disconnected.
//
// # What is cloned
//
// All parameters of the base share as testparm shows them, be it in smb.conf or in the registry,
// with these exceptions. Path and comment are the copy's own. A copy that nobody is to write to has
// "read only = yes" and no "write list"; one that is writable until it is sealed may be written to
// by those who may write to the base share. There are no "admin users". VFS modules that show or
// take snapshots (shadow_copy2, btrfs, snapper and their like) and their parameters are left out,
// the others stay, as files would lose their ACLs and streams. In values, %S stays the name of the
// base share.
//
// # What Lookup finds
//
// Shares of smb.conf and of the registry that are available and lead to a directory of this
// machine: no printers, no homes, no usershares, no exposed copies.
//
// # What an exposed share is known by
//
// Its name, base@{id} or base$@{id}$, and the parameter "fsrvp:copy = id" in it. Shares without
// both are never changed. The parameter "fsrvp:owner" says which agent has made it: no other one
// changes or removes it.
package samba
