// Package writer has ready writers for [provider.Config]: applications that hold still while the
// copies are taken.
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
// A copy is of one moment where a server takes a snapshot: btrfs, ZFS, a Windows file server. A
// server that copies files one by one needs an application that writes nothing at all meanwhile:
// FSFreeze, or a Command that stops it.
//
// # Nothing stays frozen
//
// What a database holds belongs to one session, and the server ends that when the connection
// breaks, or when nothing came on it for the writer's limit. All else is frozen and thawed by a
// guard ([Guard]), a process that thaws when the program dies, is killed or stopped, and when the
// limit is over. Where a thaw fails the guard tries again, for an hour, also when the program has
// ended by then.
//
// A copy during which the application went on is not a consistent one: Thaw says so
// ([provider.ErrNotHeld]), and the run fails.
//
// # Order
//
// Provider.Writer's Group decides. A database in a guest has a lower number than the guest: it is
// frozen first, and flushes into a file system that still takes it.
//
// A program that logs to a file system that it has frozen waits for the guard: its log belongs
// elsewhere.
package writer
