#!/bin/sh
# After the package's files have gone. /var/lib/fsrvp stays, also with purge: it is the table of the shadow copies that are still there.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
