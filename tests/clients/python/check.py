"""Checks a server through the Python client etcd3.

    tests/clients/python/run 127.0.0.1:2379

One line a check; the last line is "N passed, N failed"; exit code 0 if none failed. Every wait is bounded.
"""

import queue
import sys
import threading
import time

import etcd3

TIMEOUT_SECONDS = 10


def expect(holds, text):
    if not holds:
        raise AssertionError(text)


def eventually(condition, text, limit=TIMEOUT_SECONDS):
    deadline = time.monotonic() + limit
    while not condition():
        expect(time.monotonic() < deadline, text)
        time.sleep(0.05)


def put_get_delete(client, prefix):
    key = prefix + "key"
    value, _ = client.get(key)
    expect(value is None, "a key is there before it was put")
    client.put(key, "one")
    answer = client.put(key, "two", prev_kv=True)
    expect(answer.prev_kv.value == b"one", f"previous value {answer.prev_kv.value}")
    value, metadata = client.get(key)
    expect(value == b"two" and metadata.key == key.encode() and metadata.version == 2, f"got {value}, version {metadata.version}")
    expect(metadata.mod_revision == metadata.create_revision + 1, "revisions do not follow each other")
    client.put(key, b"\x00\xff binary \n")
    expect(client.get(key)[0] == b"\x00\xff binary \n", "bytes do not come back as they are")
    answer = client.delete(key, prev_kv=True, return_response=True)
    expect(answer.deleted == 1 and answer.prev_kvs[0].value == b"\x00\xff binary \n", f"delete answers {answer}")
    expect(client.delete(key) is False, "a key can be deleted twice")
    expect(client.get(key)[0] is None, "a deleted key is there")


def prefixes(client, prefix):
    for i in range(30):
        client.put(f"{prefix}k/{(i * 7) % 30:02}", str(i))
    client.put(prefix + "k0", "outside")
    keys = [metadata.key.decode() for _, metadata in client.get_prefix(prefix + "k/")]
    expect(keys == [f"{prefix}k/{i:02}" for i in range(30)], f"keys {keys}")
    keys = [metadata.key.decode() for _, metadata in client.get_prefix(prefix + "k/", sort_order="descend", sort_target="mod", keys_only=True)]
    expect(keys[0] == f"{prefix}k/{(29 * 7) % 30:02}" and len(keys) == 30, f"newest first: {keys}")
    values = [value for value, _ in client.get_range(prefix + "k/05", prefix + "k/08")]
    expect(len(values) == 3, f"a range of three has {len(values)}")
    answer = client.delete_prefix(prefix + "k/")
    expect(answer.deleted == 30, f"deleted {answer.deleted}")
    expect([m.key.decode() for _, m in client.get_prefix(prefix)] == [prefix + "k0"], "more or less than the outsider is left")


def transactions(client, prefix):
    key = prefix + "key"
    done, answers = client.transaction(
        compare=[client.transactions.version(key) == 0],
        success=[client.transactions.put(key, "1"), client.transactions.get(key)],
        failure=[client.transactions.get(key)],
    )
    expect(done and answers[1][0][0] == b"1", f"the first answers {done}, {answers}")
    done, answers = client.transaction(
        compare=[client.transactions.version(key) == 0],
        success=[client.transactions.put(key, "2")],
        failure=[client.transactions.get(key)],
    )
    expect(not done and answers[0][0][0] == b"1", f"the second answers {done}, {answers}")
    done, _ = client.transaction(
        compare=[client.transactions.value(key) == "1", client.transactions.mod(key) > 0, client.transactions.create(key) > 0],
        success=[client.transactions.delete(key)],
        failure=[],
    )
    expect(done and client.get(key)[0] is None, "the third has not deleted")
    expect(client.put_if_not_exists(key, "a") is True, "put_if_not_exists of a missing key")
    expect(client.put_if_not_exists(key, "b") is False, "put_if_not_exists of a key that is there")
    expect(client.replace(key, "a", "c") is True and client.replace(key, "a", "d") is False, "replace")
    expect(client.get(key)[0] == b"c", "after replace")


def watches(client, prefix):
    events = queue.Queue()
    identifier = client.add_watch_callback(prefix, events.put, range_end=etcd3.utils.increment_last_byte(etcd3.utils.to_bytes(prefix)), prev_kv=True)
    client.put(prefix + "a", "1")
    client.put(prefix + "a", "2")
    client.put(prefix + "b", "1")
    client.delete(prefix + "a")
    seen = []
    while len(seen) < 4:
        response = events.get(timeout=TIMEOUT_SECONDS)
        expect(not isinstance(response, Exception), f"the watch failed: {response}")
        seen += response.events
    client.cancel_watch(identifier)
    kinds = [(type(event).__name__, event.key.decode()[len(prefix):], event.value, event.prev_value) for event in seen]
    expect(kinds == [("PutEvent", "a", b"1", b""), ("PutEvent", "a", b"2", b"1"), ("PutEvent", "b", b"1", b""), ("DeleteEvent", "a", b"", b"2")], f"events {kinds}")

    iterator, cancel = client.watch(prefix + "a", start_revision=seen[0]._event.kv.mod_revision)
    past = []
    timer = threading.Timer(TIMEOUT_SECONDS, cancel)
    timer.start()
    for event in iterator:
        past.append(event.value)
        if len(past) == 3:
            break
    timer.cancel()
    cancel()
    expect(past == [b"1", b"2", b""], f"from the past: {past}")


def leases(client, prefix):
    lease = client.lease(100)
    client.put(prefix + "a", "1", lease=lease)
    client.put(prefix + "b", "1", lease=lease)
    expect(lease.granted_ttl == 100 and 90 < lease.remaining_ttl <= 100, f"granted {lease.granted_ttl}, remaining {lease.remaining_ttl}")
    expect(sorted(lease.keys) == [(prefix + "a").encode(), (prefix + "b").encode()], f"keys {lease.keys}")
    expect(lease.refresh()[0].TTL == 100, "refresh")
    lease.revoke()
    expect(list(client.get_prefix(prefix)) == [], "the lease's keys outlive it")

    short = client.lease(3)
    client.put(prefix + "short", "1", lease=short)
    eventually(lambda: client.get(prefix + "short")[0] is None, "a key outlives its lease's time")
    expect(short.remaining_ttl == -1, f"an expired lease has {short.remaining_ttl} s left")


def locks(client, prefix):
    first = client.lock(prefix + "lock", ttl=60)
    expect(first.acquire(timeout=TIMEOUT_SECONDS) is True, "a free lock is not acquired")
    second = client.lock(prefix + "lock", ttl=60)
    expect(second.acquire(timeout=1) is False, "a lock is acquired twice")
    expect(first.is_acquired() and not second.is_acquired(), "is_acquired")
    expect(first.release() is True, "release")
    expect(second.acquire(timeout=TIMEOUT_SECONDS) is True, "a released lock is not acquired")
    second.release()

    counter = {"value": 0}

    def count():
        own = etcd3.client(host=HOST, port=PORT, timeout=TIMEOUT_SECONDS)
        for _ in range(5):
            lock = own.lock(prefix + "counter", ttl=60)
            # The client looks for the release only after its attempt has failed, and may miss it; so it is asked often.
            eventually(lambda: lock.acquire(timeout=0.2), "the lock is not passed on", 60)
            value = counter["value"]
            time.sleep(0.001)  # long enough for another thread to come between
            counter["value"] = value + 1
            lock.release()
        own.close()

    threads = [threading.Thread(target=count, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expect(counter["value"] == 30, f"counted to {counter['value']}, not 30")


def maintenance(client, prefix):
    status = client.status()
    expect(status.version == "3.7.1", f"version {status.version}")
    expect(len(list(client.members)) == 1, "members")
    expect(list(client.list_alarms()) == [], "alarms")
    expect(client.hash() is not None, "hash")
    client.put(prefix + "a", "1")
    client.put(prefix + "a", "2")
    revision = client.get(prefix + "a")[1].mod_revision
    client.compact(revision, physical=True)
    try:
        client.compact(revision)
    except Exception as error:  # the client has no type of its own for it
        expect("compacted" in str(error), f"a second compaction: {error}")
    else:
        raise AssertionError("a second compaction at the same revision succeeds")


# When a client is closed, a watch thread of it may just find that out; its traceback means nothing. What threads of this program do is checked by their results.
threading.excepthook = lambda details: None

CHECKS = [put_get_delete, prefixes, transactions, watches, leases, locks, maintenance]


def main():
    run = f"python/{time.time_ns()}/"
    passed = failed = 0
    for check in CHECKS:
        client = etcd3.client(host=HOST, port=PORT, timeout=TIMEOUT_SECONDS)
        began = time.monotonic()
        try:
            check(client, f"{run}{check.__name__}/")
            passed += 1
            print(f"ok    {check.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL  {check.__name__}: {type(error).__name__}: {error}", flush=True)
        client.close()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check.py HOST:PORT")
    HOST, _, PORT = sys.argv[1].rpartition(":")
    sys.exit(main())
