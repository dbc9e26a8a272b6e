package agent_test

import (
	"expvar"
	"log"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// Metrics of an agent, here for package expvar; those of other libraries are filled in the same
// way.
func ExampleConfig_observe() {
	calls, seconds, copies := expvar.NewMap("fsrvp_calls"), expvar.NewMap("fsrvp_step_seconds"), expvar.NewInt("fsrvp_copies")
	server, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{Agent: agent.Config{
		Observe: func(ev agent.Event) {
			switch ev.Kind {
			case agent.EventCall:
				calls.Add(ev.Op.String()+" "+ev.Status.Name(), 1)
			case agent.EventStep:
				seconds.AddFloat(string(ev.Step), ev.Duration.Seconds())
			case agent.EventStatus:
				copies.Set(int64(ev.Copies))
			}
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	server.Close()
	// Output:
}
