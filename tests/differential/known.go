package main

import "strings"

// Where etcring differs from etcd on purpose. Each has a name, which docs/differences.md explains; nothing else may differ.
//
//	garbage-text              the words of the protobuf library after "grpc: error unmarshalling request:" (a unary call) or
//	                          "grpc: failed to unmarshal the received message:" (a stream) are not compared
//	ignore-value-after-range  a txn whose range delete removes a key that a later put of the same branch names with ignore_value
//	                          or ignore_lease ends etcd 3.7.1 in a panic; so it is never sent (generateTxn takes care)
//	compaction-at-put-again   a txn that deletes a key and then puts it (through a hole in the duplicate-key rules), then a compaction at exactly that
//	                          revision: etcd 3.7.1 loses the put, and ends when the key is next read; so it is never sent (model.safeCompaction)
//	wrong-wire-type           a field that comes with another wire type than its own (a key as a number) counts as unknown for Go's library and is passed over;
//	                          etcring refuses the message; so it is never sent
//	unknown-alarm-action      an Alarm request whose action is none of the three ends etcd 3.7.1 in a panic; so it is never sent
//
// Not differences but freedom of etcd itself, which differs from run to run; the program settles it before it compares:
// the order of keys that are equal in an unstable sort (settleTies), the order of leases that expire at about the same time and of a lease's keys,
// remaining times to live (evenTimeToLive), the batches and headers of watches that catch up, the moment a compaction has removed old versions (awaitCompaction),
// ids, terms, sizes and URLs (normaliser).

// How grpc's errors about bytes that are no message begin: of a unary call, and of a stream.
var unmarshalPrefixes = []string{"grpc: error unmarshalling request:", "grpc: failed to unmarshal the received message:"}

func withoutUnstableDetail(text string) string {
	for _, prefix := range unmarshalPrefixes {
		if strings.HasPrefix(text, prefix) {
			return prefix
		}
	}
	return text
}
