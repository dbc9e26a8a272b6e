// Package logs is the home of what the RPC runtime's loggers have in common.
package logs

import "log/slog"

// OrDiscard returns l, or a logger that writes nothing for a nil one.
func OrDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
