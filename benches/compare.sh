#!/usr/bin/env bash
# Measures etcring and a real etcd in turn, on this machine and under the same load, and prints their medians side by side.
#
#   benches/compare.sh                    # everything, three rounds: about 40 minutes; writes docs/compare.md, its SVG and README's table
#   benches/compare.sh puts gets          # only these loads, prints only; all: puts gets clients offered million range watch shards,
#                                         # and for etcring alone, only by name: disturbed (1 minute) grown (8) larger (20)
#   benches/compare.sh --quick            # one short round with fewer keys, prints only
#   benches/compare.sh --results DIR watch    # keeps the runs' JSON in DIR; what DIR already holds is in the table as well
#   benches/compare.sh --results DIR --rounds 0 --write    # makes the documents again from DIR; so a part can be measured again
#
#   --etcring PATH   this etcring in place of a fresh cargo build --release
#   --etcd PATH      this etcd in place of 3.7.1 from benches/peer (needs Go) or, without Go, the system's etcd
#   --rounds N       so many rounds
#   --dir DIR        data directories go below DIR (default: TMPDIR or /var/tmp): a real disk, not a tmpfs
#   --write          write the documents, whatever was run
#
# benches/compare.table says which figure of which load becomes which row. Nothing else should run on the machine meanwhile.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

ALL_LOADS=(puts gets clients offered million range watch shards)
ALONE_LOADS=(disturbed grown larger)
HEAVY=(--connections 100 --clients 1000)
command_line="benches/compare.sh $*"
rounds=3 quick= writes= etcring= etcd= results=
directory=${TMPDIR:-/var/tmp}
loads=()

fail() {
    echo "compare.sh: $*" >&2
    exit 1
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --quick) quick=yes rounds=1 ;;
        --write) writes=yes ;;
        --rounds) rounds=${2:?--rounds N} && shift ;;
        --etcring) etcring=$(realpath "${2:?--etcring PATH}") && shift ;;
        --etcd) etcd=$(realpath "${2:?--etcd PATH}") && shift ;;
        --dir) directory=${2:?--dir DIR} && shift ;;
        --results) results=${2:?--results DIR} && shift ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" && exit 0 ;;
        *)
            [[ " ${ALL_LOADS[*]} ${ALONE_LOADS[*]} " == *" $1 "* ]] || fail "no load is called $1; --help lists them"
            loads+=("$1")
            ;;
        esac
        shift
    done
    if [ ${#loads[@]} = 0 ]; then
        loads=("${ALL_LOADS[@]}")
        [ -n "$quick" ] || [ "$rounds" = 0 ] || writes=yes
    fi
    if [ -n "$quick" ]; then
        seconds=3 warm_up=1 idle=5 keys=100000 range_keys=20000 grown_keys=200000 larger_keys=100000 disturbance=5
    else
        seconds=10 warm_up=2 idle=20 keys=1000000 range_keys=100000 grown_keys=10000000 larger_keys=8388608 disturbance=15
    fi
}

# --- the servers

build_etcring() {
    [ -n "$etcring" ] && return
    cargo build --release
    etcring=$PWD/target/release/etcring
}

find_etcd() {
    if [ -n "$etcd" ]; then
        etcd_from="given by its path"
    elif command -v go >/dev/null; then
        etcd=$PWD/target/peer etcd_from="built by benches/peer with $(go env GOVERSION)"
        (cd benches/peer && go build -o "$etcd" .)
    else
        etcd=$(command -v etcd) || fail "there is no etcd: install Go or Debian's etcd-server, or give --etcd PATH"
        etcd_from="the system's"
    fi
}

# A port that nobody listens on now; below the ports that the kernel gives to outgoing connections.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# start COLUMN [FLAGS]: starts a column's server on $data and waits until it answers. Sets pid, endpoint and start_seconds.
start() {
    local program=$etcring began=$EPOCHREALTIME peer
    [ "$1" != etcd ] || program=$etcd
    endpoint=http://127.0.0.1:$(free_port)
    peer=http://127.0.0.1:$(free_port)
    "$program" --data-dir "$data" --listen-client-urls "$endpoint" --advertise-client-urls "$endpoint" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        "${@:2}" >"$work/log" 2>&1 &
    pid=$!
    "$etcring" bench range --endpoints "$endpoint" --wait 120s --total 1 --warm-up 0s --json >"$work/first" ||
        fail "$1 does not answer: $(tail -5 "$work/log")"
    start_seconds=$(elapsed "$began")
}

elapsed() {
    local now=$EPOCHREALTIME
    echo "$(((${now/./} - ${1/./}) / 1000))e-3"
}

stop() {
    [ -n "${pid:-}" ] || return 0
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    pid=
}

# --- measuring

# measure LOAD BENCH-ARGUMENTS: one run of the load generator against the column's server.
measure() {
    local load=$1 file=$results/$1.$column.$round.json
    shift
    echo "round $round, $column, $load" >&2
    "$etcring" bench "$1" --endpoints "$endpoint" --server-pid "$pid" --warm-up "${warm_up}s" --duration "${seconds}s" --json "${@:2}" \
        >"$file.new" || [ -s "$file.new" ] || fail "$load against $column gave no figures: $(tail -5 "$work/log")"
    mv "$file.new" "$file"
}

# note LOAD NAME NUMBER: a figure that the load generator does not know.
note() {
    echo "{\"$2\": $3}" >"$results/$1.$column.$round.json"
}

# with_server COLUMN FUNCTION [FLAGS]: the function's loads against a fresh server.
with_server() {
    column=$1 data=$work/data
    rm -rf "$data"
    start "$column" "${@:3}"
    "$2"
    stop
    rm -rf "$data"
}

# --- the loads

load_puts() { measure puts put "${HEAVY[@]}"; }

load_gets() {
    measure gets range "${HEAVY[@]}" --fill
    measure gets-serializable range "${HEAVY[@]}" --serializable
}

load_clients() {
    measure one-put put
    measure ten-put put --connections 10
    measure one-get range --fill
    measure ten-get range --connections 10
}

load_offered() {
    measure idle idle --duration "${idle}s"
    measure offered put "${HEAVY[@]}" --rate 10000
}

load_million() {
    measure million put "${HEAVY[@]}" --keys sequential --key-space "$keys" --total "$keys" --warm-up 0s --duration 1h
    stop
    start "$column"
    note million-restart seconds "$start_seconds"
    measure million-restarted idle --duration 2s --warm-up 0s
    measure million-compaction compact --total 1 --warm-up 0s --duration 10m
    measure million-defragmentation defragment --total 1 --warm-up 0s --duration 10m
    note million-compacted bytes "$(settled_bytes)"
}

# Bytes of the data directory on disk, once they have stayed the same for three seconds.
settled_bytes() {
    local bytes last=0 same=0
    for _ in $(seq 60); do
        bytes=$(du -s --block-size=1 "$data" | cut -f1)
        [ "$bytes" = "$last" ] && same=$((same + 1)) || same=0
        [ "$same" -lt 3 ] || break
        last=$bytes
        sleep 1
    done
    echo "$bytes"
}

load_range() {
    local here=(--prefix range/ --key-size 16 --value-size 1024) there=(--prefix other/ --key-size 16)
    measure range-fill put "${HEAVY[@]}" "${here[@]}" --keys sequential --key-space "$range_keys" --total "$range_keys" --warm-up 0s --duration 10m
    measure range range --all "${here[@]}" --total 5 --warm-up 0s --duration 1m
    measure count range --all --count-only "${here[@]}" --total 50 --warm-up 0s
    # Ranges one after the other in the background, from before the puts are measured to after.
    "$etcring" bench range --all "${here[@]}" --endpoints "$endpoint" --warm-up 0s --duration "$((seconds + warm_up + 1))s" --json \
        >"$work/ranges" &
    local ranges=$!
    measure range-puts put --connections 10 --clients 50 --rate 200 "${there[@]}"
    wait "$ranges" || fail "the ranges beside the puts failed: $(head -c 500 "$work/ranges")"
}

load_watch() {
    local watch=(watch --connections 10 --clients 1000 --watchers 1000 --watchers-per-stream 100)
    measure watch-200 "${watch[@]}" --rate 200
    measure watch-1000 "${watch[@]}" --rate 1000
}

load_shards() {
    measure shards-put put "${HEAVY[@]}"
    measure shards-get range "${HEAVY[@]}" --fill
    measure shards-list range --limit 500
}

# Puts at a steady rate, and in the middle of them what might hold them up. Checkpoints and rotations of the log come by themselves.
load_disturbed() {
    measure disturbed-fill put "${HEAVY[@]}" --keys sequential --key-space "$keys" --total "$keys" --warm-up 0s --duration 10m
    disturb &
    local disturber=$!
    measure disturbed put "${HEAVY[@]}" --rate 10000 --key-space "$keys" --duration "$((4 * disturbance))s" --plot "$results/disturbed.svg"
    wait "$disturber" || fail "the disturbance failed: $(cat "$work/disturbance")"
}

disturb() {
    local what
    for what in compact defragment compact; do
        sleep "$disturbance"
        "$etcring" bench "$what" --endpoints "$endpoint" --total 1 --warm-up 0s --duration 10m --json >"$work/disturbance"
    done
}

# Each time at once, and when the pages that the puts want have come to memory.
load_grown() {
    local puts=(put "${HEAVY[@]}" --key-space "$grown_keys") warm=(--warm-up "$((3 * seconds))s")
    column=empty
    measure grown "${puts[@]}"
    measure grown-warm "${puts[@]}" "${warm[@]}"
    measure grown-fill "${puts[@]}" --keys sequential --total "$grown_keys" --warm-up 0s --duration 1h
    column=grown
    measure grown "${puts[@]}"
    measure grown-warm "${puts[@]}" "${warm[@]}"
}

load_larger() {
    local keys=(--key-size 16 --value-size 1024 --key-space "$larger_keys") total=(--total "$larger_keys" --warm-up 0s --duration 2h)
    measure larger-load put "${HEAVY[@]}" "${keys[@]}" --keys sequential "${total[@]}"
    measure larger-get range --connections 10 --clients 100 "${keys[@]}" --rate 1000 --duration "$((3 * seconds))s"
    measure larger-put put --connections 10 --clients 100 "${keys[@]}" --rate 1000 --duration "$((3 * seconds))s"
    stop
    start "$column" "${LARGER[@]}"
    note larger-restart seconds "$start_seconds"
    measure larger-overwrite put "${HEAVY[@]}" "${keys[@]}" --keys sequential "${total[@]}"
    measure larger-compact compact --total 1 --warm-up 0s --duration 2h
}

# With room for the keys, their next versions, and what is not compacted yet.
GROWN=(--quota-backend-bytes 20GiB)
LARGER=(--cache-bytes 256MiB --quota-backend-bytes 20GiB)

run_round() {
    local load shards
    for load in "${loads[@]}"; do
        case $load in
        shards)
            for shards in 1 4 16; do
                with_server "shards-$shards" load_shards --shards "$shards"
            done
            ;;
        disturbed) with_server etcring load_disturbed ;;
        grown) with_server etcring load_grown "${GROWN[@]}" ;;
        larger) with_server etcring load_larger "${LARGER[@]}" ;;
        *)
            with_server etcd "load_$load"
            with_server etcring "load_$load"
            ;;
        esac
    done
}

# --- the tables

# The version that a server tells of itself.
version() { "$1" --version 2>&1 | sed -n "s/^$2 Version: //p" | head -1; }

disk_class() {
    local source type disk rotates kind=
    read -r source type < <(df --output=source,fstype "$directory" | tail -1)
    disk=$(basename "$(realpath "/sys/class/block/$(basename "$source")" 2>/dev/null)" | sed -E 's/p?[0-9]+$//')
    rotates=$(cat "/sys/block/$disk/queue/rotational" 2>/dev/null || true)
    case $disk in vd* | xvd*) kind="virtual disk" ;; nvme*) kind="NVMe disk" ;; *) kind="disk" ;; esac
    [ "$rotates" = 1 ] && kind="$kind that calls itself rotating"
    echo "$type on a $kind"
}

about() {
    local machine=machine
    grep -qw hypervisor /proc/cpuinfo && machine="virtual machine"
    echo "etcd: $(version "$etcd" etcd), $etcd_from"
    echo "etcring: $(version "$etcring" etcring), $("$etcring" --version | sed -n 's/^Git SHA: /commit /p')"
    echo "machine: a $machine with $(nproc) CPUs ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1))," \
        "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo) of memory; the load generator runs on the same CPUs"
    echo "disk: $(disk_class)"
    echo "kernel: $(uname -sr | cut -d- -f1)"
    echo "date: $(date -u +%Y-%m-%d)"
    echo "commands: $(paste -sd, "$results/commands" | sed 's/,/, /g'); each figure is the median of its rounds, the lowest and the" \
        "highest are in parentheses"
    [ -z "$quick" ] || echo "**quick: shorter runs, $keys keys in place of 1,000,000 and $range_keys in place of 100,000**"
}

print_tables() {
    local writing=()
    if [ "$rounds" != 0 ]; then
        echo "\`${command_line% }\`" >>"$results/commands"
        about >"$results/about"
    fi
    if [ -n "$writes" ]; then
        writing=(--markdown docs/compare.md --svg docs/compare.svg --readme README.md)
        [ ! -e "$results/disturbed.svg" ] || cp "$results/disturbed.svg" docs/compare-disturbed.svg
    fi
    "$etcring" bench table "$results" --figures benches/compare.table --about "$results/about" \
        --name "etcd=etcd $(version "$etcd" etcd)" --name "etcring=etcring" --name "shards-1=1 shard" \
        --name "shards-4=4 shards" --name "shards-16=16 shards" \
        --name "empty=empty store" --name "grown=ten million keys" "${writing[@]}"
}

read_arguments "$@"
work=$(mktemp -d "$directory/etcring-compare-XXXXXX")
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
results=${results:-$work/results}
mkdir -p "$results"
build_etcring
find_etcd
for ((round = 1; round <= rounds; round++)); do
    run_round
done
print_tables
