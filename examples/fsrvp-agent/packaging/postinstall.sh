#!/bin/sh
# After the package's files are there, the first time or in place of older ones. A new agent is not started: it has to be configured first. One
# that runs is started again, and keeps its persistent sets.
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers fsrvp-agent.conf
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart fsrvp-agent.service
fi
