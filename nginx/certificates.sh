#!/bin/sh
# Makes the certificates of a compose cluster where there are none, and makes them anew 30 days before they end:
#
#   $AUTHORITY/ca.key, ca.pem    the cluster's own authority; the key leaves this folder never
#   $LINKS/ca.pem, link.pem, link.key       for masters and nodes; owned by $LINKS_OWNER
#   $FRONT/ca.pem, link.pem, link.key       nginx's, towards the masters, and chain.pem, front.key for clients; owned by $FRONT_OWNER
#   $MONITOR/ca.pem, link.pem, link.key     Prometheus'; owned by $MONITOR_OWNER
#   $STORE/ca.pem, link.pem, link.key       etcd's, for the names in $STORE_NAMES; owned by $STORE_OWNER. Only where $STORE is set
#
# Keys have mode 0600. A chain.pem and front.key that somebody else put there, such as those of a public authority, are left
# alone. Needs openssl (3.0 or later). Runs as root, to give the files to those who use them; run again, it changes nothing that is still good.
set -eu

: "${AUTHORITY:=/authority}"
: "${LINKS:=/links}"
: "${FRONT:=/front}"
: "${MONITOR:=/monitor}"
: "${STORE:=}"
: "${STORE_NAMES:=etcd1,etcd2,etcd3,localhost,127.0.0.1}"
: "${STORE_OWNER:=10001:10001}"
: "${LINKS_OWNER:=10001:10001}"
: "${FRONT_OWNER:=101:101}"
: "${MONITOR_OWNER:=65534:65534}"
# The names and addresses that clients use.
: "${RINGMASTER_TLS_NAMES:=localhost,127.0.0.1}"
: "${RINGMASTER_CERTIFICATE_DAYS:=398}"
: "${RINGMASTER_AUTHORITY_DAYS:=3650}"

soon=2592000
umask 077
work=$(mktemp -d)
trap 'status=$?; [ "$status" = 0 ] || cat "$work/log" >&2; rm -rf "$work"' EXIT
: >"$work/log"

say() { printf 'ringmaster-certificates: %s\n' "$*" >&2; }

is_good() {
    [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend "$soon" >/dev/null 2>&1
}

# From this authority, and not for long any more, or not there at all: then it is ours to make.
is_due() {
    [ -s "$1" ] || return 0
    openssl verify -CAfile "$AUTHORITY/ca.pem" -no_check_time "$1" >/dev/null 2>&1 || return 1
    ! is_good "$1"
}

alternative_names() {
    printf '%s\n' "$1" | tr ',' '\n' | sed '/^ *$/d; s/ //g' | while read -r name; do
        case $name in
            *:* | *[0-9].*[0-9].*[0-9].[0-9]*) printf 'IP:%s\n' "$name" ;;
            *) printf 'DNS:%s\n' "$name" ;;
        esac
    done | paste -s -d , -
}

# sign CERTIFICATE KEY NAMES OWNER: the key first, so that nobody finds a certificate without it.
sign() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ringmaster \
        -addext "subjectAltName=$(alternative_names "$3")" -addext 'extendedKeyUsage=serverAuth,clientAuth' \
        -keyout "$work/key" -out "$work/request" 2>>"$work/log"
    openssl x509 -req -in "$work/request" -CA "$AUTHORITY/ca.pem" -CAkey "$AUTHORITY/ca.key" -copy_extensions copy \
        -days "$RINGMASTER_CERTIFICATE_DAYS" -out "$work/certificate" 2>>"$work/log"
    place "$work/key" "$2" 0600 "$4"
    place "$work/certificate" "$1" 0644 "$4"
    say "made $1"
}

# place FROM TO MODE OWNER, in one step
place() {
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    [ -z "$4" ] || chown "$4" "$2.new"
    mv "$2.new" "$2"
}

if ! is_good "$AUTHORITY/ca.pem"; then
    # What the authority before has signed for clients is ours to make, too.
    if openssl verify -CAfile "$AUTHORITY/ca.pem" -no_check_time "$FRONT/chain.pem" >/dev/null 2>&1; then
        rm -f "$FRONT/chain.pem"
    fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$RINGMASTER_AUTHORITY_DAYS" -subj '/CN=Ringmaster, this cluster' \
        -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -keyout "$AUTHORITY/ca.key" -out "$AUTHORITY/ca.pem" 2>>"$work/log"
    chmod 0644 "$AUTHORITY/ca.pem"
    rm -f "$LINKS/link.pem" "$FRONT/link.pem" "$MONITOR/link.pem" ${STORE:+"$STORE/link.pem"}
    say "made the authority"
fi

# equip FOLDER OWNER NAMES: the authority's certificate, and a pair for these names.
equip() {
    chown "$2" "$1"
    chmod 0700 "$1"
    cmp -s "$AUTHORITY/ca.pem" "$1/ca.pem" || place "$AUTHORITY/ca.pem" "$1/ca.pem" 0644 "$2"
    if is_due "$1/link.pem" || [ ! -s "$1/link.key" ]; then
        sign "$1/link.pem" "$1/link.key" "$3" "$2"
    fi
}

equip "$LINKS" "$LINKS_OWNER" ringmaster
equip "$FRONT" "$FRONT_OWNER" ringmaster
equip "$MONITOR" "$MONITOR_OWNER" ringmaster
[ -z "$STORE" ] || equip "$STORE" "$STORE_OWNER" "$STORE_NAMES"
if is_due "$FRONT/chain.pem"; then
    sign "$FRONT/chain.pem" "$FRONT/front.key" "$RINGMASTER_TLS_NAMES" "$FRONT_OWNER"
fi
say "clients trust $AUTHORITY/ca.pem"
