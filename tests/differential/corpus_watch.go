package main

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func watchScripts() []sequence {
	three := []step{put("a", "1"), put("a", "2"), remove("a", "")}
	pairs := repeat(1500, func(i int) step { return put(fmt.Sprint("many/", i%7), fmt.Sprint(i)) })
	long := bytes.Repeat([]byte("0123456789"), 45_000)
	largeTxn := txnOf(putOp(&pb.PutRequest{Key: []byte("f/1"), Value: long}), putOp(&pb.PutRequest{Key: []byte("f/2"), Value: long}), putOp(&pb.PutRequest{Key: []byte("f/3"), Value: long}))
	wide := func() *pb.TxnRequest {
		txn := &pb.TxnRequest{}
		for i := range 128 {
			txn.Success = append(txn.Success, p(fmt.Sprintf("w/%03d", (i*37)%128), "v"))
		}
		return txn
	}
	return []sequence{
		script("watches from past, present and future", three, watch(0, "a", "", 0, withPrevious), watch(0, "a", "", 1, withPrevious), watch(0, "a", "", 2), watch(0, "a", "", 3, withPrevious), watch(0, "a", "", 4, withPrevious),
			watch(0, "a", "", 5), watch(0, "a", "", 6, withPrevious), watch(0, "a", "", 8), watch(0, "a", "", -1), watch(0, "a", "", -9), drain(), three, three, drain()),
		script("watch ids", watch(0, "a", "", 0), watch(0, "a", "", 0, withID(1)), watch(0, "a", "", 0, withID(1)), watch(0, "a", "", 0), watch(0, "a", "", 0, withID(3)), watch(0, "a", "", 0), watch(0, "a", "", 0),
			watch(0, "a", "", 0, withID(-7)), watch(0, "a", "", 0, withID(-7)), watch(0, "a", "", 0, withID(1<<40)), put("a", "1"), cancel(0, 0), cancel(0, 0), cancel(0, 99), cancel(0, -1), cancel(0, -7), put("a", "2"),
			watch(0, "a", "", 0), watch(0, "a", "", 0, withID(-7)), put("a", "3"), watch(1, "a", "", 1), put("a", "4"), drain(), cancel(0, 3), watch(0, "a", "", 2, withID(3)), drain(), put("a", "5")),
		script("watch ranges", watch(0, "", "", 0), watch(0, "", "\x00", 0), watch(0, "\x00", "\x00", 0), watch(0, "", "b", 0), watch(0, "b", "a", 0), watch(0, "b", "b", 0), watch(0, "b", "b\x00", 0), watch(0, "b", "\x00", 0), watch(0, "\xff", "\x00", 0),
			watch(0, "\x00", "\x00\x00", 0), watch(0, "a", "c", 0), put("\x00", "1"), put("a", "1"), put("a\xff", "1"), put("b", "1"), put("b\x00", "1"), put("c", "1"), put("\xff", "1"), put("\xff\xff", "1"), txnStep(wide()), remove("\x00", "\x00"), drain()),
		script("watch filters", watch(0, "a", "z", 0, without(pb.WatchCreateRequest_NOPUT)), watch(0, "a", "z", 0, without(pb.WatchCreateRequest_NODELETE), withPrevious),
			watch(0, "a", "z", 0, without(pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE)), watch(0, "a", "z", 0, without(7)), watch(0, "a", "z", 0, without(0, 0, 5)), three, txnOf(p("b", "1"), d("c", "")), remove("b", ""),
			watch(1, "a", "z", 1, without(pb.WatchCreateRequest_NOPUT), withPrevious), watch(1, "a", "z", 2, without(pb.WatchCreateRequest_NODELETE)), drain()),
		script("watches of several keys in one revision", watch(0, "\x00", "\x00", 0, withPrevious), watch(1, "t/1", "", 0, withPrevious), watch(2, "l/", "l0", 0), richHistory(), drain(), watch(3, "\x00", "\x00", 1, withPrevious), watch(3, "t/", "t0", 9, withPrevious), drain()),
		script("watches of compacted revisions", three, three, three, compact(7), watch(0, "a", "", 6), drain(), watch(0, "a", "", 7, withPrevious), watch(0, "a", "", 8, withPrevious), watch(0, "a", "", 1), drain(),
			cancel(0, 0), cancel(0, 0), watch(0, "a", "", 7, withID(3)), drain(), cancel(0, 3), watch(0, "a", "", 7, withID(3)), put("a", "9"), drain(), compact(current(0)), put("a", "10"), drain()),
		script("previous values that are compacted", put("a", "1"), put("a", "2"), put("a", "3"), watch(0, "a", "", 0, withPrevious), compact(4), put("a", "4"), drain(), watch(1, "a", "", 4, withPrevious), drain(), compact(5), watch(1, "a", "", 5, withPrevious), drain()),
		script("watch progress", progress(0), watch(0, "a", "", 0), progress(0), put("b", "1"), progress(0), watch(0, "a", "", 1), drain(), progress(0), put("a", "1"), progress(0),
			watch(1, "a", "", current(3)), silence(1), put("a", "2"), silence(1), put("a", "3"), put("a", "4"), progress(1), put("a", "5"), progress(1), cancel(0, 0), cancel(0, 1), silence(0), watch(0, "a", "", 0), progress(0),
			compact(4), watch(2, "a", "", 2), drain(), silence(2), watch(2, "a", "", 0), silence(2), cancel(2, 0), progress(2), put("a", "6"), drain()),
		script("catching up over more revisions than one batch", pairs, watch(0, "many/", "many0", 1), watch(0, "many/3", "", 2, withPrevious), watch(1, "many/", "many0", 700, withPrevious), drain(), progress(0), pairs[:300], drain()),
		script("responses larger than a message", watch(0, "f/", "f0", 0, withPrevious, fragmented), watch(1, "f/", "f0", 0, withPrevious), watch(2, "f/1", "", 0, fragmented), largeTxn, largeTxn, largeTxn, remove("f/", "f0"), drain(),
			watch(3, "f/", "f0", 1, withPrevious, fragmented), watch(4, "f/", "f0", 1), drain(), progress(3)),
		script("many watches on one stream", repeat(300, func(i int) step { return watch(0, fmt.Sprint("n/", i%50), []string{"", "n0"}[i%2], 0) }), repeat(50, func(i int) step { return put(fmt.Sprint("n/", i), "v") }),
			drain(), progress(0), repeat(150, func(i int) step { return cancel(0, int64(i*2)) }), remove("n/", "n0"), drain(), progress(0)),
		script("progress notifications", watch(0, "a", "", 0, withNotify), watch(0, "a", "", 1, withNotify), watch(0, "b", "", 0), put("a", "1"), notified(0, 0), notified(0, 1), put("b", "1"), put("b", "2"), notified(0, 1), notified(0, 0), drain(),
			watch(1, "a", "", current(2), withNotify), put("c", "1"), put("c", "2"), put("c", "3"), notified(1, 0), put("a", "2"), drain()).with("--watch-progress-notify-interval=200ms"),
		script("watches that a restart ends", watch(0, "a", "", 0), put("a", "1"), drain(), restart(), watch(0, "a", "", 1), put("a", "2"), drain()),
	}
}
