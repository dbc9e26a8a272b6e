package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// spans turns events into spans of OpenTelemetry: one for each set, from its start until it is
// complete or gone, and below it one for each call and each step of a backend.
type spans struct {
	tracer trace.Tracer

	mu   sync.Mutex
	sets map[fsrvp.SetID]trace.Span
}

// observe is for agent.Config.Observe.
func (s *spans) observe(ev agent.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev.Kind {
	case agent.EventStatus:
		if ev.From == "" {
			_, s.sets[ev.Set] = s.tracer.Start(context.Background(), "shadow copy set", trace.WithNewRoot(),
				trace.WithAttributes(attribute.Stringer("fsrvp.set", ev.Set)))
		}
		set := s.sets[ev.Set]
		if set == nil {
			return // it was there before this process
		}
		set.AddEvent("status", trace.WithAttributes(attribute.String("fsrvp.status", string(ev.To))))
		if ev.To == agent.Recovered || ev.To == "" {
			set.End()
			if ev.To == "" {
				delete(s.sets, ev.Set)
			}
		}
	case agent.EventCall:
		s.span(ev, ev.Op.String(), ev.Status != 0, ev.Status.Name())
	case agent.EventStep:
		s.span(ev, string(ev.Step), ev.Err != nil, fmt.Sprint(ev.Err))
	}
}

// span makes a span of something that has ended. The events of a set come in order, and a call's
// comes after its steps'.
func (s *spans) span(ev agent.Event, name string, failed bool, why string) {
	parent := context.Background()
	if set := s.sets[ev.Set]; set != nil {
		parent = trace.ContextWithSpan(parent, set)
	}
	end := time.Now()
	_, span := s.tracer.Start(parent, name, trace.WithTimestamp(end.Add(-ev.Duration)))
	if ev.Copy != (fsrvp.CopyID{}) {
		span.SetAttributes(attribute.Stringer("fsrvp.copy", ev.Copy))
	}
	if failed {
		span.SetStatus(codes.Error, why)
	}
	span.End(trace.WithTimestamp(end))
}

// Traces of an agent by OpenTelemetry. A real exporter takes the place of the one that keeps the
// spans in memory.
func ExampleConfig_observe_openTelemetry() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	tracing := &spans{tracer: provider.Tracer("fsrvp"), sets: map[fsrvp.SetID]trace.Span{}}

	server, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{Agent: agent.Config{Observe: tracing.observe}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()
	client, err := server.Dial(ctx, fsrvptest.Operator)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	_ = client.SetContext(ctx, fsrvp.ContextBackup)
	set, _ := client.StartShadowCopySet(ctx, fsrvp.NewSetID())
	_ = client.CommitShadowCopySet(ctx, set, time.Minute) // has no share: it is refused
	_ = client.AbortShadowCopySet(ctx, set)

	var names []string
	for _, span := range exporter.GetSpans() {
		names = append(names, strings.TrimSpace(span.Name+" "+span.Status.Description))
	}
	slices.Sort(names)
	fmt.Println(strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "store" }), "\n"))
	// Output:
	// AbortShadowCopySet
	// CommitShadowCopySet FSRVP_E_BAD_STATE
	// SetContext
	// StartShadowCopySet
	// shadow copy set
}
