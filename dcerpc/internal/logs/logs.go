// Package logs has helpers for the loggers of the RPC runtime.
package logs

import "log/slog"

// OrDiscard returns l, or a logger that writes nothing if l is nil.
func OrDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
