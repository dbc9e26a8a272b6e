package ntlm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// from is the context of a log-on from an address.
func from(t *testing.T, host string) context.Context {
	return dcerpc.WithPeer(t.Context(), dcerpc.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(host), Port: 1}})
}

// TestLogonQueue has 128 log-ons of one address wait, each for 50 ms of winbind's time: one from
// another address is next, one from the same is not far behind, and none waits for longer than
// MaxWait.
func TestLogonQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewWinbindHelper(&WinbindConfig{Processes: 2, MaxWait: 2 * time.Second})
		logon := func(host string) error {
			p, err := h.wait(from(t, host))
			if err != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond)
			h.queue.give(p)
			return nil
		}
		results := make(chan error, 128)
		begin := time.Now()
		for range 128 {
			go func() { results <- logon("10.0.0.9") }()
		}
		synctest.Wait()
		require.NoError(t, logon("10.0.0.1"))
		require.LessOrEqual(t, time.Since(begin), 100*time.Millisecond)
		require.NoError(t, logon("10.0.0.9"))
		require.LessOrEqual(t, time.Since(begin), 250*time.Millisecond)
		refused := 0
		for range 128 {
			if err := <-results; err != nil {
				require.ErrorIs(t, err, ErrBusy)
				refused++
			}
		}
		require.InDelta(t, 128-2*40, refused, 8)
		require.LessOrEqual(t, time.Since(begin), 2100*time.Millisecond)
		require.NoError(t, h.Close())
		require.ErrorIs(t, logon("10.0.0.1"), net.ErrClosed)
	})
}

// TestLogonQueueTurns gives every address its turn, whatever order they came in.
func TestLogonQueueTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewWinbindHelper(&WinbindConfig{Processes: 1})
		first, err := h.wait(t.Context())
		require.NoError(t, err)
		order := make(chan string, 16)
		for _, host := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"} {
			go func() {
				p, err := h.wait(from(t, host))
				if err != nil {
					order <- fmt.Sprint(err)
					return
				}
				order <- host
				h.queue.give(p)
			}()
			synctest.Wait()
		}
		given, cancel := context.WithCancel(t.Context())
		abandoned := make(chan error)
		go func() {
			_, err := h.wait(given)
			abandoned <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-abandoned, context.Canceled)
		h.queue.give(first)
		for _, want := range []string{"10.0.0.1", "10.0.0.2", "2001:db8::2", "10.0.0.1", "2001:db8::1", "10.0.0.1"} {
			require.Equal(t, want, <-order)
		}
		synctest.Wait()
		require.NoError(t, h.Close())
		_, err = h.wait(t.Context())
		require.True(t, errors.Is(err, net.ErrClosed))
	})
}
