// Package samba exposes shadow copies as registry shares of the Samba on this machine. Each is a
// clone of the share that was copied, with its parameters and its share security descriptor, but
// read-only.
//
// It runs Samba's own programs as root: net, testparm, sharesec, smbcontrol and smbstatus. smb.conf
// must enable shares from the registry, by one of
//
//	registry shares = yes
//	include = registry
//
// # The helper
//
// A program spends most of its time starting. If python3-samba is installed, in the programs'
// release and 4.17 or later (Debian's samba depends on it), New starts one process of
// /usr/bin/python3. That process changes the registry through its public bindings, all shares of a
// call in one transaction, and makes smbd end the use of shares: each of smbd's processes gets the
// messages that smbcontrol sends, and acknowledges them. If the process fails, is later than
// Config.HelperTimeout, or gives a doubtful answer, it is killed, programs do the work again from
// the beginning, and the process is started again after a second or more. [Shares.Helper] counts
// these cases. Security descriptors of shares are always set by sharesec, so a base share with a
// descriptor costs a program for each copy. Config.ProgramsOnly forbids the process; [Shares.Close]
// ends it.
//
// Testparm, and sharesec for the descriptor of a base share, run again only if smb.conf, a file
// that it includes, or the databases registry.tdb and share_info.tdb have changed. They run every
// time if smb.conf includes files by macros (%m) or has shares of users.
//
// # Who may see it
//
// Samba opens an exposed directory as the user who reads it, so every directory above it needs the
// x permission for those users. This process must see smbd's processes: in another PID namespace
// smbstatus takes them for dead, and nobody waits until clients are disconnected.
//
// # What is cloned
//
// All parameters of the base share as testparm shows them, from smb.conf or the registry, with
// these exceptions. The copy has its own path and comment. A read-only copy has "read only = yes"
// and no "write list". A copy that is writable until it is sealed can be written by those who may
// write to the base share. There are no "admin users". VFS modules that show or take snapshots
// (such as shadow_copy2, btrfs and snapper) and their parameters are left out. Other modules stay,
// because files would lose their ACLs and streams without them. In values, %S stays the name of the
// base share.
//
// # What Lookup finds
//
// Shares of smb.conf and of the registry that are available and lead to a directory of this
// machine; not printers, homes, usershares or exposed copies.
//
// # How exposed shares are recognized
//
// An exposed share has the name base@{id} or base$@{id}$ and the parameter "fsrvp:copy = id".
// Shares that lack either are never changed. The parameter "fsrvp:owner" says which agent has made
// the share: no other agent changes or removes it.
package samba
