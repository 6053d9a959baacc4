#!/usr/bin/env bash
# Drives load at a Ringmaster cluster. Needs no flag and works from any folder.
#
#   --host URL    the cluster's front door             (http://127.0.0.1:8080)
#   --users N     how many users at a time             (32)
#   --time T      how long, as 30s, 5m, 1h             (30s)
#   --out DIR     where the reports go                 (load_test/results/<time of start>)
#
#   --keys N      how many different keys              (10000)
#   --zipf-s S    skew of their popularity, 0 = all alike  (0.99)
#   --value-size B    bytes of a value                 (100)
#   --bulk-size N     keys of a bulk request           (100)
#   --ttl S       expiry in seconds, 0 = never         (0)
#   --seed N      makes the choice of keys repeatable
#   ReadHeavy, WriteHeavy, Bulk    only these users    (all: 6, 3 and 1 of 10)
#
# Whatever else is given goes to Locust, --processes 2 for instance, when one core of load is too little.
#
# Leaves report.html, stats.csv (one line per kind of request), history.csv, failures.csv, locust.log and summary.txt,
# which it prints. Ends with 0 if no request failed, 1 if one did, 2 if there was nothing to test.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
host=http://127.0.0.1:8080
users=32
time=30s
out=$here/results/$(date +%Y%m%d-%H%M%S)
more=()

usage() { sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p}' "${BASH_SOURCE[0]}"; }
die() { printf 'loadTest: %s\n' "$*" >&2; exit 2; }

while (($#)); do
    case $1 in
        --host | --users | --time | --out)
            (($# > 1)) || die "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --host=* | --users=* | --time=* | --out=*)
            option=${1%%=*}
            declare "${option#--}=${1#*=}"
            ;;
        -h | --help) usage; exit 0 ;;
        *) more+=("$1") ;;
    esac
    shift
done

locust=$root/.venv/bin/locust
if [ ! -x "$locust" ]; then
    locust=$(command -v locust) || {
        printf 'loadTest: setting up the environment\n'
        make --no-print-directory -C "$root" setup
        locust=$root/.venv/bin/locust
    }
fi

[[ $host =~ ^https?:// ]] || host=http://$host
host=${host%/}
[[ $users =~ ^[1-9][0-9]*$ ]] || die "--users takes a number, got '$users'"

# Prints the status of the cluster's readiness; fails, and says why, if nobody answers.
probe() {
    python3 - "$host/readyz" <<'EOF'
import sys, urllib.error, urllib.request
# As Locust does: what http_proxy names is never asked.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(opener.open(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
except (OSError, ValueError) as error:
    sys.exit(print(error) or 1)
EOF
}
if ! status=$(probe); then
    die "no cluster answers at $host ($status).
Start one:       make -C '$root' up
or in Docker:    docker-compose -f '$root/docker-compose.yml' up --build -d
or name another: $0 --host http://HOST:PORT"
fi
[ "$status" = 200 ] || die "the cluster at $host is not ready (GET /readyz gives $status); see curl $host/readyz"

mkdir -p "$out"
out=$(cd "$out" && pwd)
printf 'loadTest: %s users at %s for %s\n' "$users" "$host" "$time"

result=0
(
    # No settings file of the caller's folder applies.
    cd "$here"
    exec "$locust" --locustfile locustfile.py --headless --host "$host" \
        --users "$users" --spawn-rate "$users" --run-time "$time" --stop-timeout 10 \
        --html "$out/report.html" --csv "$out/locust" --summary-file "$out/summary.txt" \
        ${more[@]+"${more[@]}"}
) >"$out/locust.log" 2>&1 </dev/null || result=$?

for name in stats failures exceptions; do
    if [ -f "$out/locust_$name.csv" ]; then mv "$out/locust_$name.csv" "$out/$name.csv"; fi
done
if [ -f "$out/locust_stats_history.csv" ]; then mv "$out/locust_stats_history.csv" "$out/history.csv"; fi

if [ ! -s "$out/summary.txt" ]; then
    tail -n 20 "$out/locust.log" >&2
    die "Locust ended without a result; all it said is in $out/locust.log"
fi
printf '\n'
cat "$out/summary.txt"
printf 'reports     %s\n' "$out"
exit $result
