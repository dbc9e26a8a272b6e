package fsrvp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// Ask a file server whether it can copy a share, and who owns the share.
func ExampleClient_IsPathSupported() {
	server, err := fsrvptest.NewServer(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	// With a real server: fsrvp.Dial(ctx, "fs1.example.com", &fsrvp.Config{Transport:
	// &smbpipe.Dialer{Auth: auth}, Auth: auth})
	client, err := server.Dial(context.Background(), fsrvptest.Operator)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	support, err := client.IsPathSupported(context.Background(), `\\fs1\share`)
	fmt.Println(support.Supported, err)
	_, err = client.IsPathSupported(context.Background(), `\\fs1\plain`)
	fmt.Println(errors.Is(err, fsrvp.ErrNotSupported))
	// Output:
	// true <nil>
	// true
}

// Take a shadow copy of one share, use it, and delete it. Package provider does this for many, with
// everything that can go wrong.
func ExampleClient() {
	server, err := fsrvptest.NewServer(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := server.Dial(context.Background(), fsrvptest.Operator)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := copyShare(context.Background(), client, `\\fs1\share`); err != nil {
		log.Fatal(err)
	}
	// Output:
	// exposed as share@{...}
}

func copyShare(ctx context.Context, s fsrvp.Service, share string) error {
	if err := s.SetContext(ctx, fsrvp.ContextBackup); err != nil {
		return err
	}
	set, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
	if err != nil {
		return err
	}
	id, err := s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	for _, step := range []func() error{
		func() error { return s.PrepareShadowCopySet(ctx, set, 30*time.Minute) },
		func() error { return s.CommitShadowCopySet(ctx, set, time.Minute) },
		func() error { return s.ExposeShadowCopySet(ctx, set, 30*time.Minute) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		return errors.Join(err, s.AbortShadowCopySet(ctx, set))
	}
	m, err := s.GetShareMapping(ctx, id, set, share, 1)
	if err != nil {
		return errors.Join(err, s.AbortShadowCopySet(ctx, set))
	}
	name, _, _ := strings.Cut(m.Exposed, "{")
	fmt.Printf("exposed as %s{...}\n", name)
	return errors.Join(
		s.RecoveryCompleteShadowCopySet(ctx, set),
		s.DeleteShareMapping(ctx, set, id, share),
	)
}
