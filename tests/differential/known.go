package main

import "strings"

// Where etcring differs from etcd on purpose. Each has a name, which docs/differences.md explains; nothing else may differ.
//
//	garbage-text              the words of the protobuf library after "grpc: error unmarshalling request:" are not compared
//	ignore-value-after-range  a txn whose range delete removes a key that a later put of the same branch names with ignore_value
//	                          or ignore_lease ends etcd 3.7.1 in a panic; so it is never sent (generateTxn takes care)
//	compaction-at-put-again   a txn that deletes a key and then puts it (through a hole in the duplicate-key rules), then a compaction at exactly that
//	                          revision: etcd 3.7.1 loses the put, and ends when the key is next read; so it is never sent (model.safeCompaction)
//	unknown-alarm-action      an Alarm request whose action is none of the three ends etcd 3.7.1 in a panic; so it is never sent
//
// Not differences but freedom of etcd itself, which differs from run to run; the program settles it before it compares:
// the order of keys that are equal in an unstable sort (settleTies), the order of leases that expire at about the same time and of a lease's keys,
// remaining times to live (evenTimeToLive), the batches and headers of watches that catch up, the moment a compaction has removed old versions (awaitCompaction),
// ids, terms, sizes and URLs (normaliser).

const unmarshalPrefix = "grpc: error unmarshalling request:"

func withoutUnstableDetail(text string) string {
	if strings.HasPrefix(text, unmarshalPrefix) {
		return unmarshalPrefix
	}
	return text
}
