#!/usr/bin/env bash
# Checks a server through etcdctl, by what it prints.
#
#   tests/clients/etcdctl.sh /usr/bin/etcdctl 127.0.0.1:2379
#
# Works with etcdctl 3.4 (Debian's etcd-client) and with newer ones. One line a check; the last line is "N passed, N failed"; exit code 0 if none failed.
# With CHECK_PERF=1 it also runs check perf, which takes a minute. It compacts, so let nothing else use the server meanwhile.
set -uo pipefail

program=${1:?usage: $0 ETCDCTL HOST:PORT}
endpoint=${2:?usage: $0 ETCDCTL HOST:PORT}
unset ETCDCTL_ENDPOINTS ETCDCTL_API
version=$(ETCDCTL_API=3 "$program" version 2>/dev/null | sed -n 's/^etcdctl version: //p')
case $version in 3.4.*) export ETCDCTL_API=3 ;; esac # newer ones know no other, and warn of the variable
work=$(mktemp -d "${TMPDIR:-/tmp}/etcdctl-XXXXXX")
background=()
clean_up() {
    for pid in "${background[@]}"; do kill "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

passed=0
failed=0
P=etcdctl/$$-$RANDOM # everything goes below this prefix

ctl() { timeout 30 "$program" --endpoints "$endpoint" "$@"; }

ok() { passed=$((passed + 1)) && echo "ok    $1"; }
bad() {
    failed=$((failed + 1))
    echo "FAIL  $1"
    printf '      %s\n' "${@:2}"
}

# is NAME EXPECTED ACTUAL: both must be equal.
is() { if [ "$2" == "$3" ]; then ok "$1"; else bad "$1" "expected: ${2@Q}" "actual:   ${3@Q}"; fi; }
# like NAME PATTERN ACTUAL: a bash regular expression must match.
like() { if [[ $3 =~ $2 ]]; then ok "$1"; else bad "$1" "expected to match: ${2@Q}" "actual: ${3@Q}"; fi; }
# Waits until the command succeeds, at most so many seconds.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}
lines() { printf '%s\n' "$@"; }
revision() { ctl get "$P/any" -w json | grep -o '"revision":[0-9]*' | head -1 | cut -d: -f2; }

keys() {
    is "put" OK "$(ctl put "$P/k/b" two)"
    ctl put "$P/k/a" one >/dev/null
    ctl put "$P/k/c" three >/dev/null
    ctl put "$P/k0" outside >/dev/null
    is "put --prev-kv" "$(lines OK "$P/k/b" two)" "$(ctl put --prev-kv "$P/k/b" TWO)"
    is "put of standard input" "$(lines "$P/in" "from a pipe")" "$(echo -n "from a pipe" | ctl put "$P/in" >/dev/null && ctl get "$P/in")"
    is "get" "$(lines "$P/k/a" one)" "$(ctl get "$P/k/a")"
    is "get of a missing key" "" "$(ctl get "$P/missing")"
    is "get --print-value-only" one "$(ctl get --print-value-only "$P/k/a")"
    is "get --prefix" "$(lines "$P/k/a" one "$P/k/b" TWO "$P/k/c" three)" "$(ctl get --prefix "$P/k/")"
    is "get of a range" "$(lines "$P/k/a" one "$P/k/b" TWO)" "$(ctl get "$P/k/a" "$P/k/c")"
    is "get --prefix --order=DESCEND" "$(lines "$P/k/c" "" "$P/k/b" "" "$P/k/a" "")"  "$(ctl get --prefix --order=DESCEND --keys-only "$P/k/")"
    is "get --prefix --sort-by=MODIFY" "$(lines "$P/k/b" "$P/k/c" "$P/k/a")" "$(ctl get --prefix --order=DESCEND --sort-by=MODIFY --keys-only "$P/k/" | grep .)"
    is "get --prefix --limit" "$(lines "$P/k/a" "$P/k/b")" "$(ctl get --prefix --limit=2 --keys-only "$P/k/" | grep .)"
    is "get --from-key" "$(lines "$P/k/c" "$P/k0")" "$(ctl get --from-key --limit=2 --keys-only "$P/k/c" | grep .)"
    is "get --consistency=s" "$(lines "$P/k/a" one)" "$(ctl get --consistency=s "$P/k/a")"
    like "get -w json" '"create_revision":[0-9]+,"mod_revision":[0-9]+,"version":2,"value":"VFdP"' "$(ctl get "$P/k/b" -w json)"
    case $version in 3.4.*) ;; *) like "get --prefix --count-only" '"Count" : 3' "$(ctl get --prefix --count-only -w fields "$P/k/")" ;; esac
    local before
    before=$(revision)
    ctl put "$P/k/a" newer >/dev/null
    is "get --rev" "$(lines "$P/k/a" one)" "$(ctl get "$P/k/a" --rev="$before")"
    like "get --rev of the future" "required revision is a future revision" "$(ctl get "$P/k/a" --rev=$((before + 1000)) 2>&1)"
    is "del" 1 "$(ctl del "$P/k/a")"
    is "del of a missing key" 0 "$(ctl del "$P/k/a")"
    is "del --prefix --prev-kv" "$(lines 2 "$P/k/b" TWO "$P/k/c" three)" "$(ctl del --prefix --prev-kv "$P/k/")"
    is "put of an empty key" 1 "$(ctl put "" x >/dev/null 2>"$work/error"; echo $?)"
    like "put of an empty key says" "key is not provided" "$(cat "$work/error")"
}

# Starts a watch in the background, with its output in $work/$1, and waits until it is there: a key below $P/ready is put until the watch shows it.
watch_starts() {
    local name=$1
    shift
    timeout 60 "$program" --endpoints "$endpoint" watch "$@" >"$work/$name" 2>&1 &
    background+=($!)
}

shows() { grep -qF -- "$2" "$work/$1"; }
put_until_shown() { ctl put "$2" "$3" >/dev/null && shows "$1" "$2"; }
has_lines() { [ "$(cat "$work/$1" 2>/dev/null | wc -l)" -ge "$2" ]; }

watches() {
    watch_starts watch --prefix --prev-kv "$P/w/"
    if ! eventually 20 put_until_shown watch "$P/w/ready" 1; then
        bad "watch" "it shows nothing of the prefix" "$(cat "$work/watch")"
        return
    fi
    ctl put "$P/w/a" 1 >/dev/null
    ctl put "$P/w/a" 2 >/dev/null
    ctl del "$P/w/a" >/dev/null
    ctl put "$P/w/last" "" >/dev/null
    eventually 20 shows watch "$P/w/last" || true
    is "watch --prefix --prev-kv" "$(lines PUT "$P/w/a" 1 PUT "$P/w/a" 1 "$P/w/a" 2 DELETE "$P/w/a" 2 "$P/w/a" "" PUT "$P/w/last")" \
        "$(awk -v first="$P/w/a" 'found { print; next } $0 == first { found = 1; print "PUT"; print }' "$work/watch")"
    local start
    start=$(revision)
    for i in 1 2 3; do ctl put "$P/past" "$i" >/dev/null; done
    watch_starts past --rev=$((start + 1)) "$P/past"
    eventually 20 has_lines past 9
    is "watch --rev of the past" "$(lines PUT "$P/past" 1 PUT "$P/past" 2 PUT "$P/past" 3)" "$(cat "$work/past")"
}

transactions() {
    local answer
    ctl put "$P/t" 1 >/dev/null
    answer=$(printf 'value("%s") = "1"\n\nput %s 2\nget %s\n\nput %s no\n\n' "$P/t" "$P/t" "$P/t" "$P/t" | ctl txn)
    is "txn, success" "$(lines SUCCESS "" OK "" "$P/t" 2)" "$answer"
    answer=$(printf 'version("%s") > "5"\nmod("%s") > "0"\n\nput %s no\n\nget %s\ndel %s\n\n' "$P/t" "$P/t" "$P/t" "$P/t" "$P/t" | ctl txn)
    is "txn, failure" "$(lines FAILURE "" "$P/t" 2 "" 1)" "$answer"
    answer=$(printf 'create("%s") = "0"\n\nput %s interactive\n\n\n' "$P/t" "$P/t" | ctl txn -i)
    is "txn -i" "$(lines "compares:" "success requests (get, put, del):" "failure requests (get, put, del):" SUCCESS "" OK)" "$answer"
    is "after txn -i" "$(lines "$P/t" interactive)" "$(ctl get "$P/t")"
    answer=$(printf '\nput %s 1\nput %s 2\n\n\n' "$P/t" "$P/t" | ctl txn 2>&1)
    like "txn with a duplicate key" "duplicate key given in txn request" "$answer"
}

leases() {
    local lease answer id
    answer=$(ctl lease grant 300)
    like "lease grant" '^lease [0-9a-f]+ granted with TTL\(300s\)$' "$answer"
    lease=$(awk '{print $2}' <<<"$answer")
    ctl put --lease="$lease" "$P/l/b" 1 >/dev/null
    ctl put --lease="$lease" "$P/l/a" 1 >/dev/null
    like "lease timetolive --keys" "^lease $lease granted with TTL\(300s\), remaining\((29[0-9]|300)s\), attached keys\(\[($P/l/a $P/l/b|$P/l/b $P/l/a)\]\)\$" "$(ctl lease timetolive --keys "$lease")"
    like "lease list" "$lease" "$(ctl lease list)"
    is "lease keep-alive --once" "lease $lease keepalived with TTL(300)" "$(ctl lease keep-alive --once "$lease")"
    is "lease revoke" "lease $lease revoked" "$(ctl lease revoke "$lease")"
    is "after the revocation" "" "$(ctl get --prefix "$P/l/")"
    is "lease timetolive of a revoked lease" "lease $lease already expired" "$(ctl lease timetolive "$lease")"
    like "lease keep-alive of a revoked lease" "expired or revoked|requested lease not found" "$(ctl lease keep-alive --once "$lease" 2>&1)"
    like "lease revoke of a revoked lease" "requested lease not found" "$(ctl lease revoke "$lease" 2>&1)"
    like "put with an unknown lease" "requested lease not found" "$(ctl put --lease=123abc "$P/l" 1 2>&1)"
    id=$(ctl lease grant 5 | awk '{print $2}')
    ctl put --lease="$id" "$P/short" 1 >/dev/null
    timeout 60 "$program" --endpoints "$endpoint" lease keep-alive "$id" >"$work/alive" 2>&1 &
    local alive=$!
    background+=("$alive")
    eventually 30 has_lines alive 5 # a renewal comes about every 1.7 s, so it has lived longer than granted by now
    is "a lease that is kept alive" "$(lines "$P/short" 1)" "$(ctl get "$P/short")"
    kill "$alive"
    expired() { [ -z "$(ctl get "$P/short")" ]; }
    if eventually 20 expired; then ok "a lease that is not kept alive any more"; else bad "a lease that is not kept alive any more" "its key is still there"; fi
}

locks() {
    is "lock with a command" inside "$(ctl lock "$P/lock" echo inside)"
    timeout 60 "$program" --endpoints "$endpoint" lock "$P/lock" >"$work/lock1" 2>&1 &
    local first=$!
    background+=("$first")
    eventually 20 has_lines lock1 1
    like "lock" "^$P/lock/[0-9a-f]+\$" "$(head -1 "$work/lock1")"
    timeout 60 "$program" --endpoints "$endpoint" lock "$P/lock" >"$work/lock2" 2>&1 &
    local second=$!
    background+=("$second")
    two_wait() { [ "$(ctl get --prefix --keys-only "$P/lock/" | grep -c .)" = 2 ]; }
    eventually 20 two_wait
    is "a held lock is not given twice" "" "$(cat "$work/lock2")"
    kill -INT "$first"
    eventually 20 has_lines lock2 1
    like "a released lock is given to the next" "^$P/lock/[0-9a-f]+\$" "$(head -1 "$work/lock2")"
    kill -INT "$second"
    none_wait() { [ "$(ctl get --prefix --keys-only "$P/lock/" | grep -c .)" = 0 ]; }
    if eventually 20 none_wait; then ok "locks leave nothing behind"; else bad "locks leave nothing behind" "$(ctl get --prefix "$P/lock/")"; fi

    timeout 60 "$program" --endpoints "$endpoint" elect "$P/elect" me >"$work/elect" 2>&1 &
    local candidate=$!
    background+=("$candidate")
    eventually 20 has_lines elect 2
    is "elect" me "$(sed -n 2p "$work/elect")"
    timeout 60 "$program" --endpoints "$endpoint" elect -l "$P/elect" >"$work/listen" 2>&1 &
    background+=($!)
    eventually 20 has_lines listen 2
    is "elect -l" me "$(sed -n 2p "$work/listen")"
    kill -INT "$candidate"
}

maintenance() {
    local now
    for i in 1 2 3 4 5; do ctl put "$P/c" "$i" >/dev/null; done
    now=$(revision)
    is "compaction" "compacted revision $((now - 2))" "$(ctl compaction "$((now - 2))")"
    is "compaction --physical" "compacted revision $((now - 1))" "$(ctl compaction --physical "$((now - 1))")"
    like "compaction of a compacted revision" "required revision has been compacted" "$(ctl compaction "$((now - 1))" 2>&1)"
    like "compaction of the future" "required revision is a future revision" "$(ctl compaction "$((now + 100))" 2>&1)"
    like "get of a compacted revision" "required revision has been compacted" "$(ctl get "$P/c" --rev="$((now - 2))" 2>&1)"
    is "get of the revision compacted to" "$(lines "$P/c" 4)" "$(ctl get "$P/c" --rev="$((now - 1))")"
    like "watch of a compacted revision" "required revision has been compacted" "$(ctl watch "$P/c" --rev="$((now - 3))" 2>&1)"
    like "endpoint health" "$endpoint is healthy: successfully committed proposal" "$(ctl endpoint health 2>&1)"
    like "endpoint status" "^$endpoint, [0-9a-f]+, 3\.7\.1, " "$(ctl endpoint status)"
    like "endpoint status -w json" '"version":"3.7.1"' "$(ctl endpoint status -w json)"
    like "endpoint hashkv" "^$endpoint, [0-9]+" "$(ctl endpoint hashkv)"
    is "alarm list" "" "$(ctl alarm list)"
    is "alarm disarm" "" "$(ctl alarm disarm)"
    like "member list" "^[0-9a-f]+, started, [^,]+, http://127.0.0.1:[0-9]+, http://127.0.0.1:[0-9]+, false\$" "$(ctl member list)"
    like "defrag" "^Finished defragmenting etcd member\[.*$endpoint\]" "$(ctl defrag 2>&1)"
    if [ -n "${CHECK_PERF:-}" ]; then # the smallest load: a minute of 150 writes a second
        like "check perf" "PASS: Throughput is [0-9]+ writes/s" "$(timeout 120 "$program" --endpoints "$endpoint" check perf --load=s 2>&1)"
    fi
}

echo "etcdctl $version"
keys
watches
transactions
leases
locks
maintenance
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
