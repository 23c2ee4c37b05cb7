package main

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func raw(method string, messages ...[]byte) step {
	return step{kind: stepRaw, method: method, raw: messages}
}

// Bad input gets an error and changes nothing.
func hostileScripts() []sequence {
	broken := [][]byte{{0x0f, 0x01}, {0x0a, 0x7f, 'x'}, bytes.Repeat([]byte{0xff}, 11), {0x00, 0x00}, {0x0a}, {0x08, 0x80}, {0x0b}, {0x0c}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}}
	var garbage, empty []step
	for _, method := range append([]string{"Maintenance/Status", "Cluster/MemberList", "Lease/LeaseLeases", "KV/RangeStream", "Lease/LeaseKeepAlive", "Watch/Watch"}, unaryMethods...) {
		for _, message := range broken {
			garbage = append(garbage, raw(method, message))
		}
	}
	for _, method := range []string{"KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "Lease/LeaseRevoke", "Lease/LeaseTimeToLive", "Lease/LeaseLeases", "Maintenance/HashKV", "Maintenance/Alarm", "Cluster/MemberList", "KV/RangeStream", "Lease/LeaseKeepAlive"} {
		empty = append(empty, raw(method, []byte{}))
	}
	// Fields that nobody knows are passed over: a varint, a fixed64, a string and a fixed32 of high numbers; then key "a".
	unknown := []byte{0xf8, 0x07, 0x01, 0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 0x07, 0x02, 'h', 'i', 0xfd, 0x07, 1, 2, 3, 4, 0x0a, 0x01, 'a'}
	twice := []byte{0x0a, 0x01, 'x', 0x0a, 0x01, 'a'} // the last of two counts
	var missing []step
	for _, method := range []string{"KV/Nothing", "KV/", "Nothing/Range", "/no.such.Service/Method", "/etcdserverpb.KV/Range/more", "/nothing", "/", "/etcdserverpb.KV", "/v3lockpb.Lock/Nothing"} {
		missing = append(missing, raw(method, []byte{}))
	}
	sized := func(bytes int) step { return putWith(&pb.PutRequest{Key: []byte("k"), Value: make([]byte, bytes)}) }
	var sizes []step
	for _, size := range []int{maxRequestBytes - 1000, maxRequestBytes - 100, maxRequestBytes, maxRequestBytes + 1, maxMessageBytes - 100, maxMessageBytes - 10, maxMessageBytes, maxMessageBytes + 1, 8 << 20} {
		sizes = append(sizes, sized(size), hashKV(0))
	}
	largeParts := func(count, bytes int) step {
		txn := &pb.TxnRequest{}
		for i := range count {
			txn.Success = append(txn.Success, putOp(&pb.PutRequest{Key: fmt.Append(nil, i), Value: make([]byte, bytes)}))
		}
		return txnStep(txn)
	}
	longKey := string(bytes.Repeat([]byte("key"), 100_000))
	hugeKey := string(bytes.Repeat([]byte("k"), maxRequestBytes-1000))
	return []sequence{
		script("garbage in place of messages", put("a", "1"), garbage, get("\x00", "\x00"), hashKV(0)),
		script("empty, unknown and repeated fields", put("a", "1"), empty, raw("KV/Range", unknown), raw("KV/Range", twice), raw("KV/DeleteRange", unknown), get("\x00", "\x00")),
		script("methods that do not exist", missing, get("a", "")),
		script("sizes at the limits", sizes, largeParts(15, 100_000), largeParts(16, 100_000), largeParts(25, 100_000), get("k", ""), hashKV(0)),
		script("other limits", txnOf(p("a", "1"), p("b", "1"), p("c", "1")), txnOf(p("a", "1"), p("b", "1"), p("c", "1"), p("d", "1")), txnOf(p("a", "1"), taken(p("b", "1"), p("c", "1"))), txnOf(p("a", "1"), taken(p("b", "1"), p("c", "1"), p("d", "1"))),
			sized(9_000), sized(10_000), sized(11_000), sized(534_000), sized(540_000), get("a", "z"), hashKV(0)).with("--max-txn-ops=3", "--max-request-bytes=10000"),
		script("calls without a message, or with two", raw("KV/Range"), raw("KV/Put"), raw("KV/RangeStream"), raw("Lease/LeaseKeepAlive"), // Watch/Watch would stay open
			raw("KV/Range", []byte{0x0a, 0x01, 'a'}, []byte{0x0a, 0x01, 'b'}), raw("KV/RangeStream", []byte{0x0a, 0x01, 'a'}, []byte{0x0a, 0x01, 'b'}), raw("Lease/LeaseKeepAlive", []byte{0x08, 0x01}, []byte{0x08, 0x02}, []byte{}), get("\x00", "\x00"), hashKV(0)),
		script("long keys", put(longKey, "1"), put(longKey+"x", "2"), put(longKey[1:], "3"), ranged(&pb.RangeRequest{Key: []byte(longKey), RangeEnd: []byte(longKey + "z"), KeysOnly: true}), getAt(longKey, "", 2), watch(0, longKey, "", 1, withPrevious),
			putLeased(longKey, "4", 9), grant(9, leaseSeconds), putLeased(longKey, "4", 9), put(hugeKey, ""), ranged(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true}), revoke(9), remove(longKey[:5], longKey+"y"), drain(), compact(current(-1)), hashKV(0), restart(), hashKV(0), get("\x00", "\x00")),
	}
}
