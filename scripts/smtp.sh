#!/bin/sh
# A real SMTP server for the e-mail tests: OpenSMTPD (Debian package `opensmtpd`) on loopback only, taking mail for
# any address into DIR/Maildir.
#
#   scripts/smtp.sh start DIR [PORT]    installs the package if it is missing; returns when the port answers
#   scripts/smtp.sh stop DIR            ends the server that was started with DIR
#
# It needs root: OpenSMTPD drops to its own users, and keeps its queue in /var/spool/smtpd, so one at a time.
# Addresses at the domain `refused.test` are refused with a 5xx reply.
set -eu

usage() {
    echo "usage: $0 start DIR [PORT] | stop DIR" >&2
    exit 2
}

answers() {
    python3 -c 'import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1) as s:
    sys.exit(0 if s.recv(3) == b"220" else 1)' "$1" 2>/dev/null
}

start() {
    mkdir -p "$dir/Maildir"
    if ! command -v smtpd >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends opensmtpd >"$dir/install.log" 2>&1 ||
            { cat "$dir/install.log" >&2; exit 1; }
    fi
    # The user that owns the Maildir; OpenSMTPD delivers nothing as root.
    chmod 755 "$dir"
    chown -R nobody "$dir/Maildir"
    cat >"$dir/smtpd.conf" <<CONF
table users { "@" = "nobody" }
listen on 127.0.0.1 port $port hostname localhost no-dsn
action "keep" maildir "$dir/Maildir" virtual <users>
match from any for domain "refused.test" reject
match from any for any action "keep"
CONF
    smtpd -n -f "$dir/smtpd.conf" 2>"$dir/smtpd.check" || { cat "$dir/smtpd.check" >&2; exit 1; }
    smtpd -d -f "$dir/smtpd.conf" >"$dir/smtpd.log" 2>&1 &
    echo $! >"$dir/smtpd.pid"
    tries=0
    until answers "$port"; do
        tries=$((tries + 1))
        if [ "$tries" -ge 100 ] || ! kill -0 "$(cat "$dir/smtpd.pid")" 2>/dev/null; then
            echo "smtpd does not answer on port $port:" >&2
            cat "$dir/smtpd.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

stop() {
    [ -f "$dir/smtpd.pid" ] || return 0
    pid=$(cat "$dir/smtpd.pid")
    kill "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    rm -f "$dir/smtpd.pid"
}

[ $# -ge 2 ] || usage
dir=$2
port=${3:-2525}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
case $1 in
start) start ;;
stop) stop ;;
*) usage ;;
esac
