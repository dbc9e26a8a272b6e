#!/bin/sh
# Before the package's files go: for good ("remove" of dpkg, 0 of rpm), or for newer ones.
set -e
case ${1:-} in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now fsrvp-agent.socket fsrvp-agent.service || :
	fi
	;;
esac
