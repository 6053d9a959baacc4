#!/usr/bin/env bash
# Drives load at a Ringmaster cluster and leaves a report. Needs no flag and works from any folder.
#
#   --scenario NAME   what the users do                (mixed)
#       mixed         of 10 users 6 read, 3 write, 1 works in bulk
#       read-heavy    95 % reads, and what is missing is put in
#       write-heavy   70 % writes, 20 % reads, 10 % deletes
#       hot-key       90 % of all requests are for one key
#       stampede      values that expire after a second and take time to make: Prefer: wait, fill tokens
#       bulk          100 keys a request, half of them writes
#       failover      mixed, and a node is killed in the middle
#   --trace FILE  replays a trace, .tsv or .lis (.xz, .zst): each request a read, and on a miss a write
#   --host URL    the cluster's front door             (http://127.0.0.1:8080)
#   --users N     how many users at a time             (32)
#   --time T      how long, as 30s, 5m, 1h             (30s; a trace: to its end)
#   --processes N how many processes make the load, -1 = one a core  (1)
#   --out DIR     where the report goes                (load_test/results/<time of start>)
#   --before DIR  the run to compare with              (the last of the same scenario beside it)
#
#   --kill-at S   kill a node after S seconds          (failover: in the middle; else never)
#   --kill-node ID    which                            (the one with most primaries)
#   --data-dir DIR    data folder of the `ringmaster up` under test  (data in the checkout)
#   --compose-file F  compose file of the one under test, or several, joined by colons  (docker-compose.yml in the checkout)
#
#   --keys N      how many different keys              (10000)
#   --zipf-s S    skew of their popularity, 0 = all alike  (0.99)
#   --value-size B    bytes of a value                 (100)
#   --bulk-size N     keys of a bulk request           (100)
#   --ttl S       expiry in seconds, 0 = never         (0; stampede: 1)
#   --fill-time S stampede: how long a value takes to make  (0.05)
#   --seed N      makes the choice of keys repeatable
#   ReadHeavy, WriteHeavy, Bulk, HotKey, Stampede    only these users
#
# Whatever else is given goes to Locust.
#
# Leaves report.html with its plots (.svg), comparison.txt, summary.txt, run.json (what the next run is compared with),
# stats.csv, history.csv, failures.csv, locust.html and locust.log. Prints the summary and the comparison.
# Ends with 0 if no request failed, 1 if one did, no node could be killed or a trace is broken, 2 if there was nothing to test.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
scenario=
host=http://127.0.0.1:8080
users=32
time=
processes=
trace=
before=
kill_at=
kill_node=
data_dir=$root/data
compose_file=$root/docker-compose.yml
out=$here/results/$(date +%Y%m%d-%H%M%S)
more=()

usage() { sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p}' "${BASH_SOURCE[0]}"; }
die() { printf 'loadTest: %s\n' "$*" >&2; exit 2; }

while (($#)); do
    case $1 in
        --scenario | --host | --users | --time | --processes | --trace | --out | --before | --kill-at | --kill-node | --data-dir | --compose-file)
            (($# > 1)) || die "$1 needs a value"
            option=${1#--}
            declare "${option//-/_}=$2"
            shift
            ;;
        --scenario=* | --host=* | --users=* | --time=* | --processes=* | --trace=* | --out=* | --before=* | --kill-at=* | --kill-node=* | --data-dir=* | --compose-file=*)
            option=${1%%=*}
            option=${option#--}
            declare "${option//-/_}=${1#*=}"
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
python=$(dirname "$locust")/python
[ -x "$python" ] || python=python3
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

# Prints how many seconds a time such as 1h30m or 45 has; fails for anything else.
seconds() {
    [[ $1 =~ ^(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s?)?$ && -n $1 ]] || return 1
    printf '%d\n' $((10#${BASH_REMATCH[2]:-0} * 3600 + 10#${BASH_REMATCH[4]:-0} * 60 + 10#${BASH_REMATCH[6]:-0}))
}

[[ $host =~ ^https?:// ]] || host=http://$host
host=${host%/}
[[ $users =~ ^[1-9][0-9]*$ ]] || die "--users takes a number, got '$users'"
[[ ${processes:-1} =~ ^(-1|[1-9][0-9]*)$ ]] || die "--processes takes a number or -1, got '$processes'"
makers=${processes:-1}
[ "$makers" != -1 ] || makers=$(nproc)
((users >= makers)) || die "--users $users is too few for $makers processes: each needs one"
[ -n "$scenario" ] || scenario=${trace:+replay}
scenario=${scenario:-mixed}
case $scenario in
    mixed | read-heavy | write-heavy | hot-key | stampede | bulk | failover) [ -z "$trace" ] || die "--trace goes without --scenario" ;;
    replay)
        [ -r "$trace" ] || die "--trace needs a file that can be read, got '$trace'"
        [[ $trace =~ \.(tsv|lis)(\.(xz|zst))?$ ]] || die "--trace takes .tsv or .lis, packed as .xz or .zst or not, got '$trace'"
        ;;
    *) die "--scenario takes mixed, read-heavy, write-heavy, hot-key, stampede, bulk or failover, got '$scenario'" ;;
esac
[ -n "$time" ] || [ -n "$trace" ] || time=30s
if [ -n "$time" ]; then
    length=$(seconds "$time") || die "--time takes 30s, 5m or 1h, got '$time'"
    ((length > 0)) || die "--time must be more than 0"
fi
if [ "$scenario" = failover ] && [ -z "$kill_at" ]; then
    kill_at=$(awk "BEGIN {print $length / 2}")
fi
[[ ${kill_at:-0} =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--kill-at takes seconds, got '$kill_at'"
[ -z "$kill_at" ] || [ -z "$time" ] || awk "BEGIN {exit !($kill_at < $length)}" || die "--kill-at $kill_at is not before the end, which is --time $time"
[ -z "$before" ] || [ -r "$before/run.json" ] || die "--before takes the folder of a run, and '$before' has no run.json"

# Prints the status of the cluster's readiness; fails, and says why, if nobody answers.
probe() {
    "$python" - "$host/readyz" <<'EOF'
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

absolute() { printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"; }
[ -z "$trace" ] || trace=$(absolute "$trace")
[ ! -d "$data_dir" ] || data_dir=$(absolute "$data_dir")
[ ! -f "$compose_file" ] || compose_file=$(absolute "$compose_file")
[ -z "$before" ] || before=$(absolute "$before")

if [ -n "$kill_at" ] && [ "$kill_at" != 0 ]; then
    # Before anything is measured: a failover that nobody causes is none.
    found=$("$python" -m load_test.breaking --check --host "$host" --data-dir "$data_dir" \
        --compose-file "$compose_file" --node "$kill_node" 2>&1) || die "no node can be killed: $found"
fi

mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -f "$out/run.json" ]; then mv "$out/run.json" "$out/run.before.json"; fi
rm -f "$out/comparison.txt" "$out/summary.txt"
printf 'loadTest: %s, %s users at %s %s\n' "$scenario" "$users" "$host" "${time:+for $time}${trace:+ by $trace}"

result=0
(
    # No settings file of the caller's folder applies.
    cd "$here"
    exec "$locust" --locustfile locustfile.py --headless --host "$host" --scenario "$scenario" \
        --users "$users" --spawn-rate "$users" ${time:+--run-time "$time"} --stop-timeout 10 \
        ${processes:+--processes "$processes"} ${trace:+--trace "$trace"} ${kill_at:+--kill-at "$kill_at"} ${kill_node:+--kill-node "$kill_node"} \
        --data-dir "$data_dir" --compose-file "$compose_file" \
        --html "$out/locust.html" --csv "$out/locust" --summary-file "$out/summary.txt" --run-file "$out/run.json" \
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
compared=$("$python" -m load_test.report "$out" ${before:+--before "$before"}) || printf 'loadTest: there is no report\n' >&2
[ -z "$compared" ] || printf '\n%s\n\n' "$compared"
printf 'report      %s\n' "$out/report.html"
exit $result
