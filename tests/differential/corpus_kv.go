package main

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var spans = [][2]string{{"k3", ""}, {"nothing", ""}, {"k", "l"}, {"k2", "k5"}, {"k5", "k2"}, {"k3", "k3"}, {"k3", "k3\x00"}, {"k4", "\x00"}, {"\x00", "\x00"}, {"\x00", "z"},
	{"\xff", "\x00"}, {"k3", "k"}, {"", ""}, {"", "z"}, {"\x00", ""}}

// Nine keys of different versions, creation and modification order and values, one with a lease.
func fewKeys() []step {
	steps := []step{grant(5, leaseSeconds)}
	for i, name := range []string{"k3", "k1", "k7", "k2", "k5", "k9", "k4", "k8", "k6"} {
		steps = append(steps, put(name, fmt.Sprint((i*7)%5)))
	}
	return append(steps, put("k5", "9"), put("k5", ""), putLeased("k2", "5", 5), put("k8", "0"), remove("k7", ""), put("k7", "later"))
}

func rangeScripts() []sequence {
	var forms, sorts, filters []step
	for _, span := range spans {
		for _, limit := range []int64{-1, 0, 1, 2, 8, 9, 10} {
			for flags := range 4 {
				request := &pb.RangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), Limit: limit, KeysOnly: flags&1 != 0, CountOnly: flags&2 != 0}
				forms = append(forms, ranged(request), streamed(request))
			}
		}
	}
	for order := range 4 {
		for target := range 6 {
			for _, limit := range []int64{0, 3} {
				for flags := range 2 {
					request := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: limit, KeysOnly: flags&1 != 0,
						SortOrder: pb.RangeRequest_SortOrder(order), SortTarget: pb.RangeRequest_SortTarget(target)}
					sorts = append(sorts, ranged(request), streamed(request))
				}
			}
		}
	}
	for _, bound := range []int64{-1, 1, 2, 5, 9, 12, 100} {
		for which := range 4 {
			for _, limit := range []int64{0, 2} {
				request := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: limit}
				*[]*int64{&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision}[which] = bound
				keysOnly := &pb.RangeRequest{Key: request.Key, RangeEnd: request.RangeEnd, KeysOnly: true, MinModRevision: bound, SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_DESCEND}
				filters = append(filters, ranged(request), streamed(request), ranged(keysOnly))
			}
		}
	}
	invalid := repeat(4, func(i int) step {
		return ranged(&pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_SortOrder(i*2 - 1), SortTarget: pb.RangeRequest_SortTarget(i * 2)})
	})
	at := func(revision int64) []step {
		return []step{getAt("k", "l", revision), streamed(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: revision, Limit: 2}),
			ranged(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: revision, CountOnly: true, Serializable: true})}
	}
	var revisions []step
	for _, revision := range []int64{-1, 0, 1, 2, current(-1), current(0), current(1), current(100), 1 << 59} {
		revisions = append(revisions, at(revision)...)
	}
	var many []step
	many = append(many, repeat(120, func(i int) step { return put(fmt.Sprintf("many/%04d", i), string(bytes.Repeat([]byte{'v'}, i*i))) })...)
	for _, limit := range []int64{0, 1, 9, 10, 11, 30, 119, 120, 121} {
		many = append(many, streamed(&pb.RangeRequest{Key: []byte("many/"), RangeEnd: []byte("many0"), Limit: limit}),
			streamed(&pb.RangeRequest{Key: []byte("many/"), RangeEnd: []byte("many0"), Limit: limit, KeysOnly: true, Revision: current(-20)}))
	}
	long := string(bytes.Repeat([]byte("0123456789"), 30_000))
	large := append(repeat(24, func(i int) step { return put(fmt.Sprint("large/", i), long) }), get("large/", "large0"),
		streamed(&pb.RangeRequest{Key: []byte("large/"), RangeEnd: []byte("large0")}))
	return []sequence{
		script("ranges of every form", fewKeys(), forms),
		script("ranges sorted", fewKeys(), sorts, invalid),
		script("ranges filtered", fewKeys(), filters),
		script("ranges at revisions", fewKeys(), revisions, compact(8), at(7), at(8), at(9), revisions),
		script("range streams of many keys", many),
		script("ranges of 7 MB", large),
	}
}

func writeScripts() []sequence {
	var deletes []step
	for _, span := range spans {
		deletes = append(deletes, fewKeys()...)
		deletes = append(deletes, deleteWith(&pb.DeleteRangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1])}), get("\x00", "\x00"),
			remove(span[0], span[1]), remove("k5", "\x00"))
	}
	flags := []step{
		putWith(&pb.PutRequest{Key: []byte("new"), IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), IgnoreLease: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), Value: []byte("v"), IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), Lease: 1, IgnoreLease: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), Value: []byte("v"), Lease: 1, IgnoreValue: true, IgnoreLease: true}),
		putWith(&pb.PutRequest{Value: []byte("v"), IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), Value: []byte("v"), Lease: 99}),
		putWith(&pb.PutRequest{Key: []byte("new"), Lease: 99, IgnoreValue: true}),
		putWith(&pb.PutRequest{Key: []byte("new"), Lease: -1}),
		grant(5, leaseSeconds),
		putWith(&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 5, PrevKv: true}),
		putWith(&pb.PutRequest{Key: []byte("k"), Value: []byte("w"), IgnoreLease: true, PrevKv: true}),
		get("k", ""), timeToLive(5),
		putWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, PrevKv: true}), // and loses its lease
		get("k", ""), timeToLive(5),
		putWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Lease: 5}),
		get("k", ""), timeToLive(5),
		putWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, IgnoreLease: true}),
		get("k", ""), timeToLive(5),
		putWith(&pb.PutRequest{Key: []byte("k")}),
		get("k", ""), timeToLive(5), remove("k", ""),
		putWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true}), get("k", ""),
	}
	kubernetes := []step{
		txnStep(optimisticPut("/registry/pods/a", 0, "one")), txnStep(optimisticPut("/registry/pods/a", 0, "again")),
		txnStep(optimisticPut("/registry/pods/a", 2, "two")), txnStep(optimisticPut("/registry/pods/b", 0, "one")),
		txnStep(optimisticPut("/registry/pods/c", 0, "one")), txnStep(optimisticDelete("/registry/pods/b", 1)), txnStep(optimisticDelete("/registry/pods/b", 4)),
		txnStep(optimisticDelete("/registry/pods/b", 4)), txnStep(optimisticDelete("/registry/pods/b", 0)),
		ranged(&pb.RangeRequest{Key: []byte("/registry/pods/"), RangeEnd: []byte("/registry/pods0"), Limit: 1}),
		ranged(&pb.RangeRequest{Key: []byte("/registry/pods/a\x00"), RangeEnd: []byte("/registry/pods0"), Limit: 1, Revision: 4}),
		ranged(&pb.RangeRequest{Key: []byte("/registry/pods"), CountOnly: true}),
		txnStep(compactTxn(0, "0")), txnStep(compactTxn(0, "0")), compact(5), txnStep(compactTxn(1, "7")), txnStep(compactTxn(2, "8")), compact(7),
		ranged(&pb.RangeRequest{Key: []byte("/registry/pods/a\x00"), RangeEnd: []byte("/registry/pods0"), Limit: 1, Revision: 4}),
		get("compact_rev_key", ""),
	}
	return []sequence{
		script("a fresh store", get("a", ""), get("\x00", "\x00"), statusCall(), hashKV(0), hashKV(1), hashKV(2), hashKV(-1), getAt("a", "", 1), getAt("a", "", 2),
			remove("a", ""), remove("\x00", "\x00"), txnStep(&pb.TxnRequest{}), compact(1), hashKV(0), hashKV(1), compact(1), compact(2), compact(0), put("a", ""), hashKV(0), everyHash(3)),
		script("versions and generations", put("a", "1"), put("a", "2"), get("a", ""), remove("a", ""), get("a", ""), remove("a", ""), put("a", "3"), get("a", ""), put("a", ""), get("a", ""), everyRevision(7)),
		script("puts with flags", flags),
		script("deletes of every form", deletes),
		script("what an API server sends", kubernetes),
	}
}

func optimisticPut(key string, revision int64, value string) *pb.TxnRequest {
	txn := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte(key), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: revision}}},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})},
	}
	if revision != 0 {
		txn.Failure = []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte(key)})}
	}
	return txn
}

func optimisticDelete(key string, revision int64) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte(key), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: revision}}},
		Success: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: []byte(key)})},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte(key)})},
	}
}

func compactTxn(version int64, revision string) *pb.TxnRequest {
	key := []byte("compact_rev_key")
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: version}}},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: key, Value: []byte(revision)})},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: key})},
	}
}
