#!/bin/sh
# Runs nginx in front of the masters that a name resolves to, and follows that name: when its addresses change
# (a service scaled, a container replaced), upstream.conf is written again and nginx reloads it.
# With RINGMASTER_TLS_CERT and RINGMASTER_TLS_KEY, two files in PEM, it speaks TLS and HTTP/2, and follows these files as well.
# With RINGMASTER_LINK_CA, RINGMASTER_LINK_CERT and RINGMASTER_LINK_KEY it reaches the masters by TLS (their --tls-listen): each side
# shows a certificate of that authority, theirs for the name "ringmaster".
# Needs nginx (1.22 or later), getent, awk, sed, sort. Runs as any user.
set -eu

: "${RINGMASTER_UPSTREAM:=master:8001}"
: "${RINGMASTER_LISTEN:=8080}"
: "${RINGMASTER_NGINX_WORKERS:=auto}"
: "${RINGMASTER_BODY_LIMIT:=33554432}"
: "${RINGMASTER_READ_TIMEOUT:=8}"
: "${RINGMASTER_SHUTDOWN_TIMEOUT:=30}"
: "${RINGMASTER_NGINX_RUN_DIR:=/tmp/ringmaster-nginx}"
: "${RINGMASTER_NGINX_TEMPLATE:=/etc/ringmaster/ringmaster.conf.template}"
: "${RINGMASTER_RESOLVE_EVERY:=1}"
: "${RINGMASTER_TLS_CERT:=}"
: "${RINGMASTER_TLS_KEY:=}"
: "${RINGMASTER_LINK_CA:=}"
: "${RINGMASTER_LINK_CERT:=}"
: "${RINGMASTER_LINK_KEY:=}"

run=$RINGMASTER_NGINX_RUN_DIR
name=${RINGMASTER_UPSTREAM%:*}
port=${RINGMASTER_UPSTREAM##*:}
umask 077
mkdir -p "$run"

say() { printf 'ringmaster-nginx: %s\n' "$*" >&2; }

# The server lines of all addresses, in a stable order; nothing if the name does not resolve. Each master is its own
# spare too: with all of them counted as failed, nginx tries them all the same.
servers() {
    getent ahostsv4 "$name" 2>/dev/null | awk '{ print $1 }' | sort -u |
        sed "s/.*/server &:$port max_fails=1 fail_timeout=1s; server &:$port max_fails=0 backup;/"
}

# Run as root, its workers would be nobody, who may not write a large body to the folder.
user_line=''
if [ "$(id -u)" = 0 ]; then
    user_line='user root root;'
fi

tls=''
certificate=''
if [ -n "$RINGMASTER_TLS_CERT" ] || [ -n "$RINGMASTER_TLS_KEY" ]; then
    if [ ! -r "$RINGMASTER_TLS_CERT" ] || [ ! -r "$RINGMASTER_TLS_KEY" ]; then
        say "cannot read RINGMASTER_TLS_CERT and RINGMASTER_TLS_KEY"
        exit 2
    fi
    tls=' ssl http2'
    certificate="ssl_certificate \"$RINGMASTER_TLS_CERT\"; ssl_certificate_key \"$RINGMASTER_TLS_KEY\"; ssl_protocols TLSv1.2 TLSv1.3;"
    certificate="$certificate ssl_session_cache shared:tls:10m; ssl_session_tickets off;"
fi

scheme=http
upstream_tls=''
if [ -n "$RINGMASTER_LINK_CA$RINGMASTER_LINK_CERT$RINGMASTER_LINK_KEY" ]; then
    if [ ! -r "$RINGMASTER_LINK_CA" ] || [ ! -r "$RINGMASTER_LINK_CERT" ] || [ ! -r "$RINGMASTER_LINK_KEY" ]; then
        say "cannot read RINGMASTER_LINK_CA, RINGMASTER_LINK_CERT and RINGMASTER_LINK_KEY"
        exit 2
    fi
    scheme=https
    upstream_tls="proxy_ssl_certificate \"$RINGMASTER_LINK_CERT\"; proxy_ssl_certificate_key \"$RINGMASTER_LINK_KEY\";"
    upstream_tls="$upstream_tls proxy_ssl_trusted_certificate \"$RINGMASTER_LINK_CA\"; proxy_ssl_verify on; proxy_ssl_verify_depth 2;"
    upstream_tls="$upstream_tls proxy_ssl_name ringmaster; proxy_ssl_protocols TLSv1.2 TLSv1.3;"
fi

# Changes when the files do.
files() {
    for file in "$RINGMASTER_TLS_CERT" "$RINGMASTER_TLS_KEY" "$RINGMASTER_LINK_CA" "$RINGMASTER_LINK_CERT" "$RINGMASTER_LINK_KEY"; do
        [ -z "$file" ] || stat -L -c '%i %s %Y' "$file" 2>/dev/null || true
    done
}

sed -e "s|@USER_LINE@|$user_line|" \
    -e "s|@TLS@|$tls|" \
    -e "s|@CERTIFICATE@|$certificate|" \
    -e "s|@SCHEME@|$scheme|" \
    -e "s|@UPSTREAM_TLS@|$upstream_tls|" \
    -e "s|@WORKERS@|$RINGMASTER_NGINX_WORKERS|" \
    -e "s|@LISTEN@|$RINGMASTER_LISTEN|" \
    -e "s|@BODY_LIMIT@|$RINGMASTER_BODY_LIMIT|g" \
    -e "s|@READ_TIMEOUT@|$RINGMASTER_READ_TIMEOUT|" \
    -e "s|@NEXT_TIMEOUT@|$((RINGMASTER_READ_TIMEOUT + 2))|" \
    -e "s|@SHUTDOWN_TIMEOUT@|$RINGMASTER_SHUTDOWN_TIMEOUT|" \
    "$RINGMASTER_NGINX_TEMPLATE" >"$run/nginx.conf"

now=$(servers)
seen=$(files)
# With no master yet the front door is open all the same and answers 503 (the discard port refuses).
printf '%s\n' "${now:-server 127.0.0.1:9;}" >"$run/upstream.conf"
say "masters at $name: $(printf '%s' "$now" | grep -c server || true)"

nginx -e stderr -p "$run" -c "$run/nginx.conf" -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT "$nginx" 2>/dev/null || true' TERM INT QUIT

while kill -0 "$nginx" 2>/dev/null; do
    # In the background, so that a signal ends the wait at once.
    sleep "$RINGMASTER_RESOLVE_EVERY" &
    wait $! || true
    if [ "$(files)" != "$seen" ]; then
        seen=$(files)
        # A pair that is not one is refused, and the old one stays in use.
        if kill -HUP "$nginx" 2>/dev/null; then
            say "the certificate changed"
        fi
    fi
    new=$(servers)
    # A name that does not resolve just now says nothing about the masters.
    if [ -n "$new" ] && [ "$new" != "$now" ]; then
        printf '%s\n' "$new" >"$run/upstream.new"
        mv "$run/upstream.new" "$run/upstream.conf"
        if kill -HUP "$nginx" 2>/dev/null; then
            now=$new
            say "masters at $name changed: $(printf '%s' "$now" | grep -c server || true)"
        fi
    fi
done
status=0
wait "$nginx" || status=$?
exit "$status"
