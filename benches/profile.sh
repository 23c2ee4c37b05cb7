#!/usr/bin/env bash
# Tells what the server's CPU time goes into under a load, in shares.
#
#   benches/profile.sh put                # 1000 clients that put; also: get, watch, offered (10,000 puts/s)
#   benches/profile.sh --seconds 20 get   # sampled for so long (default: 10)
#   benches/profile.sh --top put          # and the 25 functions with the largest shares
#   --etcring PATH                        # this etcring in place of a fresh cargo build --release
#   --dir DIR                             # the data directory goes below DIR (default: TMPDIR or /var/tmp)
#
# It needs perf, and the right to sample the kernel as well (root, or kernel.perf_event_paranoid at 1 or below). A sample in the kernel
# counts for what asked for it, by its stack; one in the program for the module of the function that it is in, as inlined.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

seconds=10 top= etcring= load=
directory=${TMPDIR:-/var/tmp}

fail() {
    echo "profile.sh: $*" >&2
    exit 1
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --seconds) seconds=${2:?--seconds N} && shift ;;
        --top) top=yes ;;
        --etcring) etcring=$(realpath "${2:?--etcring PATH}") && shift ;;
        --dir) directory=${2:?--dir DIR} && shift ;;
        put | get | watch | offered) load=$1 ;;
        *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" && exit 2 ;;
        esac
        shift
    done
    [ -n "$load" ] || fail "which load? put, get, watch or offered"
    command -v perf >/dev/null || fail "perf is not there"
}

load_arguments() {
    case $load in
    put) echo put --connections 100 --clients 1000 ;;
    get) echo range --connections 100 --clients 1000 --fill ;;
    watch) echo watch --connections 10 --clients 1000 --watchers 1000 --rate 200 ;;
    offered) echo put --connections 100 --clients 1000 --rate 10000 ;;
    esac
}

# Starts the server, puts the load on it, and samples it meanwhile.
sample() {
    local endpoint=http://127.0.0.1:$((20000 + RANDOM % 12000))
    "$etcring" --data-dir "$work/data" --listen-client-urls "$endpoint" --advertise-client-urls "$endpoint" >"$work/log" 2>&1 &
    pid=$!
    "$etcring" bench range --endpoints "$endpoint" --wait 30s --total 1 --warm-up 0s --json >/dev/null || fail "$(tail -3 "$work/log")"
    # shellcheck disable=SC2046 # a list
    "$etcring" bench $(load_arguments) --endpoints "$endpoint" --server-pid "$pid" --warm-up 3s --duration "$((seconds + 2))s" \
        >"$work/bench" 2>"$work/progress" &
    bench=$!
    # The first line of progress says that the warm-up, and what was to be filled before it, is over.
    until [ -s "$work/progress" ]; do
        kill -0 "$bench" 2>/dev/null || fail "$(cat "$work/bench" "$work/progress")"
        sleep 0.2
    done
    perf record -q -F 997 -g -p "$pid" -o "$work/perf" -- sleep "$seconds" >/dev/null 2>&1 || fail "perf record does not work here"
    wait "$bench" || fail "$(cat "$work/bench" "$work/progress")"
    kill "$pid" && wait "$pid" || true
    pid=
}

# One line per sample: its functions from the innermost out, and k or u for where it was taken.
stacks() {
    perf script -i "$work/perf" -F ip,sym,dso 2>/dev/null | awk '
        NF == 0 { if (n) print line; line = ""; n = 0; next }
        { if (!n) line = ($0 ~ /\[kernel|\[guest|\.ko/) ? "k" : "u"
          sub(/^[ \t]*[0-9a-f]+ /, ""); sub(/ \([^()]*\)$/, ""); line = line "\t" $0; n++ }
        END { if (n) print line }'
}

# The order matters: the first pattern that fits has the sample.
shares() {
    awk -F '\t' '
        function kernel(stack) {
            if (stack ~ /blk_|bio_|ext4|xfs|iomap|virtblk|nvme|io_write|io_read|dio|fsync|submit_/) return "kernel: disk"
            if (stack ~ /tcp_|inet_|sock_|__sys_send|__sys_recv|net_rx|napi_|skb_|ip_|sys_sendto|sys_recvfrom|sys_accept/) return "kernel: network"
            if (stack ~ /io_uring|io_submit|schedule|futex|epoll|io_cqring/) return "kernel: io_uring, sleeping and waking"
            if (stack ~ /fault|mmap|madvise|munmap|brk|clear_page|alloc_pages/) return "kernel: memory"
            return "kernel: other"
        }
        function program(name) {
            if (name ~ /^(h2|http|httparse|tokio_util|indexmap)::|h2::|http::header|hpack/) return "HTTP/2 (h2)"
            if (name ~ /etcring::rpc|etcring::gateway/) return "sessions (rpc)"
            if (name ~ /prost|etcring::proto/) return "protobuf"
            if (name ~ /etcring::front::watch/) return "watch hub"
            if (name ~ /etcring::front/) return "front"
            if (name ~ /etcring::state/) return "evaluation (state)"
            if (name ~ /etcring::(wal|raft|reign)|crc32/) return "log (wal, raft)"
            if (name ~ /etcring::(pages|mvcc)/) return "versions and pages (mvcc, pages)"
            if (name ~ /etcring::(group|shard|coordinator)/) return "shard core (shard, group)"
            if (name ~ /etcring::(pump|metrics)|flume/) return "pump, hand-over, metrics"
            if (name ~ /glommio|io_uring|etcring::runtime/) return "executor (glommio)"
            if (name ~ /mi_|malloc|free|calloc/) return "allocator"
            if (name ~ /mem(move|cpy|set|cmp)/) return "copying and comparing bytes"
            if (name ~ /clock_gettime/) return "clock"
            return "other"
        }
        { share[$1 == "k" ? kernel($0) : program($2)]++; total++ }
        END { for (name in share) printf "%.1f|%s\n", 100 * share[name] / total, name }' "$work/stacks" |
        sort -t '|' -rn | awk -F '|' 'BEGIN { print "| share | what |"; print "| ----: | ---- |" } { printf "| %4.1f %% | %s |\n", $1, $2 }'
}

# The functions in which most samples were taken.
functions() {
    cut -f 1,2 "$work/stacks" | sort | uniq -c | sort -rn | head -25 |
        awk -v total="$(wc -l <"$work/stacks")" '{ count = $1; $1 = ""; printf "%5.1f %% %s\n", 100 * count / total, $0 }'
}

read_arguments "$@"
work=$(mktemp -d "$directory/etcring-profile-XXXXXX")
pid= bench=
trap '[ -z "$pid" ] || kill "$pid"; [ -z "$bench" ] || kill "$bench" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
if [ -z "$etcring" ]; then
    cargo build --release
    etcring=$PWD/target/release/etcring
fi
sample
stacks >"$work/stacks"
cat "$work/bench"
echo
shares
[ -z "$top" ] || { echo && functions; }
