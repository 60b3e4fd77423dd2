# Sourced by the peer scripts. A caller with a harness of its own sets P_LIB to its lib.sh; ours is this one.
# Sets PEER, HERE (the peer's folder) and ROOT (the peer's place under $SCRATCH), and a few helpers.
set -u
: "${SCRATCH:?a folder on the disk to be measured}"
HERE=$(cd "$(dirname "$0")" && pwd)
PEER=$(basename "$HERE")
ROOT=$SCRATCH/root-$PEER
P_PORT=${P_PORT:-2525}
P_SINK=${P_SINK:-2626}
P_MODE=${P_MODE:-relay}
P_SESSIONS=${P_SESSIONS:-200}

greets() { # within $1 seconds
	local i line
	for ((i = 0; i < $1 * 50; i++)); do
		if { exec 3<>"/dev/tcp/127.0.0.1/$P_PORT"; } 2>/dev/null; then
			read -r -t 2 line <&3
			exec 3>&-
			case $line in 220*) return 0 ;; esac
		fi
		sleep 0.02
	done
	return 1
}
wait_port() { greets "$1"; }
cgroup_pids() { cat "${P_CGROUP:?}/cgroup.procs" 2>/dev/null; }
# Ends the pids given by ./pidlist: TERM, up to $1 seconds, then KILL.
end_pids() {
	local p i
	p=$("$HERE/pidlist")
	[ -n "$p" ] && kill -TERM $p 2>/dev/null
	for ((i = 0; i < $1 * 10; i++)); do
		[ -z "$("$HERE/pidlist")" ] && return 0
		sleep 0.1
	done
	p=$("$HERE/pidlist")
	[ -n "$p" ] && kill -KILL $p 2>/dev/null
	sleep 0.3
}
