// Package writer has ready-made writers for [provider.Config]: applications that stop writing while
// the copies are taken.
//
// Each type is the configuration of a kind of writer, and its method Writer returns the writer:
//
//	writer          holds still              what the copy is             what it has to have
//	QEMUGuestAgent  a guest's file systems   flushed; databases in it as  qemu-ga in the guest,
//	                                         after a crash, or by hooks   its socket free
//	Libvirt         the same                 the same                     virsh, and qemu-ga
//	FSFreeze        file systems of this     flushed                      Linux, CAP_SYS_ADMIN, a
//	                host                                                  copy from below them
//	Postgres        nothing: backup mode     as after a crash, with all   pg_backup_start; a copy
//	                                         that was acknowledged        of one moment, or an
//	                                                                      archive of the log
//	MySQL           commits, and tables      as after a crash, with all   RELOAD; a copy of one
//	                without transactions     that was acknowledged        moment
//	Command         what two programs say    what they say                the programs
//
// A copy shows a single moment if the server takes a snapshot: btrfs, ZFS, a Windows file server.
// If a server copies files one by one, the application must not write at all meanwhile: use
// [FSFreeze], or a [Command] that stops it.
//
// # Nothing stays frozen
//
// The lock of a database belongs to one session, and the server ends the session when the
// connection breaks, or when it was idle for the writer's limit. Everything else is frozen and
// thawed by a [Guard], a process that thaws when the program dies, is killed or stopped, and when
// the limit is over. If a thaw fails, the guard tries again for an hour, even after the program has
// ended.
//
// If the application went on during the copy, the copy is not consistent: Thaw returns
// [provider.ErrNotHeld], and the run fails.
//
// # Order
//
// The Group of a [provider.Writer] decides the order. Give a database in a guest a lower number
// than the guest: it is then frozen first, and can flush to a file system that is not yet frozen.
//
// A program that logs to a file system that it has frozen blocks until the guard thaws it: put the
// log elsewhere.
package writer
