package provider_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// Two shares of one server are copied at one moment, while an application holds still.
func ExampleRun() {
	server, err := fsrvptest.NewServer(nil) // a real one: Config.Client in place of Dial
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	cfg := &provider.Config{
		Dial: func(ctx context.Context, host string) (provider.Agent, error) {
			return server.Dial(ctx, fsrvptest.Operator)
		},
		Writers: []provider.Writer{{
			Name:   "database",
			Freeze: func(context.Context) error { fmt.Println("the database holds still"); return nil },
			Thaw:   func(context.Context) error { fmt.Println("the database goes on"); return nil },
		}},
	}
	shares := []string{`\\fs1\share`, `\\fs1\other`}
	err = provider.Run(context.Background(), cfg, shares, func(ctx context.Context, set *provider.Set) error {
		for _, c := range set.Copies {
			name, _, _ := strings.Cut(c.Path, "{")
			fmt.Printf("%s is at %s{...}\n", c.Share, name)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sets left on the server:", len(server.Agent().Table()))
	// Output:
	// the database holds still
	// the database goes on
	// \\fs1\share is at \\fs1\share@{...}
	// \\fs1\other is at \\fs1\other@{...}
	// sets left on the server: 0
}
