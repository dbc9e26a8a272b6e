// Package fsrvp implements the File Server Remote VSS Protocol, MS-FSRVP: with it, a host that runs
// applications on SMB shares makes the file server take shadow copies of those shares.
//
// # Map
//
//   - [Service] is the interface of the 13 methods. A [*Client] implements it by calling a server,
//     an agent.Agent by doing the work; [NewHandler] and [Register] let a [dcerpc.Server] serve any
//     Service.
//   - [Dial] and [Config] connect a Client; [HandlerConfig] says which calls a handler accepts.
//   - [Status] is the result of a method; match [ErrBadState] and the like with [errors.Is].
//     [Error] is a Status that a server answered.
//   - The values are [SetID], [CopyID], [ContextValue], [Compatibility], [Filetime], [ShareName]
//     and [ParseShareName], and [ExposedName].
//   - [Message], [ParseRequest], [ParseResponse], and the structs XxxRequest and XxxResponse of
//     each method are the wire format, for programs that read captures or test peers.
//
// There is one file per method, with its messages and its Client and handler code.
//
// Package agent implements the server's side of the protocol, and package provider the client's:
// most programs use one of these. Package capture reads calls out of packet captures, and fsrvptest
// tests servers.
//
// # A shadow copy
//
// The provider makes these calls for any number of shares. Errors and clean-up are left out here:
//
//	c, err := fsrvp.Dial(ctx, "fs1.example.com", &fsrvp.Config{Transport: transport, Auth: auth})
//	err = c.SetContext(ctx, fsrvp.ContextBackup)
//	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
//	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\data`)
//	err = c.PrepareShadowCopySet(ctx, set, 30*time.Minute)
//	err = c.CommitShadowCopySet(ctx, set, time.Minute) // applications are frozen around this one
//	err = c.ExposeShadowCopySet(ctx, set, 30*time.Minute)
//	m, err := c.GetShareMapping(ctx, id, set, `\\fs1\data`, 1) // \\fs1\m.Exposed is now a share
//	err = c.RecoveryCompleteShadowCopySet(ctx, set)
//	err = c.DeleteShareMapping(ctx, set, id, `\\fs1\data`) // after the backup
//
// # Security
//
// The standard requires every call to be signed or sealed (MS-FSRVP 3.1.4): a Client seals unless
// its Config says otherwise, and a handler answers E_ACCESSDENIED to calls that are not at least
// signed. The Service behind the handler decides who may call, and which paths a caller may name.
package fsrvp
