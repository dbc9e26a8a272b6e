// Package fsrvp is the File Server Remote VSS Protocol, MS-FSRVP: the protocol by which a host that
// runs applications on SMB shares has the file server take shadow copies of those shares.
//
// # Map
//
//   - Service is the interface of the 13 methods. A *Client implements it by calling a server, an
//     agent.Agent by doing the work; NewHandler and Register turn any Service into what a
//     dcerpc.Server serves.
//   - Dial and Config connect a Client; HandlerConfig says which calls a handler lets through.
//   - Status is what a method returns; ErrBadState and its like match with errors.Is. Error is a
//     Status that came from a server.
//   - SetID and CopyID, ContextValue, Compatibility, Filetime, ShareName and ParseShareName,
//     ExposedName: the values.
//   - Message, ParseRequest and ParseResponse, and two structs per method, XxxRequest and
//     XxxResponse: the wire, for who reads captures or tests peers. Nobody else needs them.
//
// There is one file per method, with its messages, and what Client and handler make of them.
//
// The package agent is the server's side of the protocol, provider the client's: most programs use
// one of these. Package capture reads calls out of packet captures, and fsrvptest tests servers.
//
// # A shadow copy
//
// The provider does this for any number of shares; each line is a call, and errors and clean-up are
// left out:
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
// The standard wants every call signed or sealed (MS-FSRVP 3.1.4): a Client seals unless its Config
// says otherwise, and a handler answers E_ACCESSDENIED to what is not at least signed. Who may
// call, and which paths a caller may name, is the business of the Service behind the handler.
package fsrvp
