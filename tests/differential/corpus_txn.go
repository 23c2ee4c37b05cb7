package main

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func p(key, value string) *pb.RequestOp {
	return putOp(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func d(key, end string) *pb.RequestOp {
	return deleteOp(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: true})
}

func r(key, end string) *pb.RequestOp {
	return rangeOp(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
}

// A nested txn whose compare holds, or does not.
func taken(operations ...*pb.RequestOp) *pb.RequestOp {
	return txnOp(&pb.TxnRequest{Success: operations})
}

func notTaken(operations ...*pb.RequestOp) *pb.RequestOp {
	return txnOp(&pb.TxnRequest{Compare: []*pb.Compare{never()}, Success: operations})
}

func never() *pb.Compare {
	return &pb.Compare{Key: []byte("missing"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 99}}
}

func txnOf(operations ...*pb.RequestOp) step { return txnStep(&pb.TxnRequest{Success: operations}) }

func txnScripts() []sequence {
	return []sequence{
		script("compares", put("k", "v"), put("k", "w"), put("m", ""), grant(3, leaseSeconds), putLeased("n", "x", 3), compares()),
		script("duplicate keys", put("a", "1"), put("b", "1"), duplicates()),
		script("nested txns", nested()),
		script("txns nested as deep as they may be", put("a", "1"), deepTxns(), get("\x00", "\x00")),
		script("txn errors change nothing", txnErrors()),
		script("txn size", txnSizes()),
		script("reads inside txns", readsInTxns()),
		script("txn through the holes of the duplicate rules", holes()),
		script("txns that change nothing", put("a", "1"), txnOf(), txnOf(r("a", "")), txnOf(taken()), txnOf(taken(r("a", ""))), txnOf(d("x", "")), txnOf(d("x", "y"), taken(d("z", ""))),
			txnStep(&pb.TxnRequest{Compare: []*pb.Compare{never()}, Success: []*pb.RequestOp{p("a", "2")}}), get("a", ""), txnOf(p("a", "2")), get("a", "")),
	}
}

func compares() []step {
	unions := func(number int64, value string) []func(*pb.Compare) {
		return []func(*pb.Compare){
			func(c *pb.Compare) {},
			func(c *pb.Compare) { c.TargetUnion = &pb.Compare_Version{Version: number} },
			func(c *pb.Compare) { c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number} },
			func(c *pb.Compare) { c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number} },
			func(c *pb.Compare) { c.TargetUnion = &pb.Compare_Value{Value: []byte(value)} },
			func(c *pb.Compare) { c.TargetUnion = &pb.Compare_Lease{Lease: number} },
		}
	}
	var steps []step
	for _, span := range [][2]string{{"k", ""}, {"missing", ""}, {"k", "o"}, {"x", "z"}, {"m", "\x00"}, {"o", "k"}} {
		for target := range 6 {
			for result := range 5 {
				for _, number := range []int64{0, 2, 3} {
					for u, set := range unions(number, []string{"v", "", "w", "x"}[number]) {
						if u != target+1 && number != 2 {
							continue // a union of another target needs no more than one number
						}
						c := &pb.Compare{Key: []byte(span[0]), RangeEnd: []byte(span[1]), Target: pb.Compare_CompareTarget(target), Result: pb.Compare_CompareResult(result)}
						set(c)
						steps = append(steps, txnStep(&pb.TxnRequest{Compare: []*pb.Compare{c}}))
					}
				}
			}
		}
	}
	return steps
}

func duplicates() []step {
	return []step{
		txnOf(p("k", "1"), p("k", "2")),
		txnOf(p("k", "1"), d("k", "")),
		txnOf(d("k", ""), p("k", "1")),
		txnOf(d("a", "z"), p("k", "1")),
		txnOf(p("k", "1"), d("a", "z")),
		txnOf(p("k", "1"), d("a", "k")),
		txnOf(p("k", "1"), d("k\x00", "z")),
		txnOf(p("k", "1"), d("z", "a")),
		txnOf(p("k", "1"), d("k", "k")),
		txnOf(d("a", "c"), d("b", "d"), d("b", "")),
		txnStep(&pb.TxnRequest{Compare: []*pb.Compare{never()}, Success: []*pb.RequestOp{p("k", "1"), p("k", "2")}}),
		txnStep(&pb.TxnRequest{Success: []*pb.RequestOp{p("k", "1")}, Failure: []*pb.RequestOp{p("k", "2")}}),
		txnStep(&pb.TxnRequest{Failure: []*pb.RequestOp{p("k", "1"), p("k", "2")}}),
		txnOf(p("k", "1"), taken(p("k", "2"))),
		txnOf(taken(p("k", "2")), p("k", "1")),
		txnOf(p("k", "1"), notTaken(p("k", "2"))),
		txnOf(p("k", "1"), taken(d("k", ""))),
		txnOf(taken(d("k", "")), p("k", "1")),
		txnOf(taken(d("a", "z")), p("k", "1")),
		txnOf(d("k", ""), taken(p("k", "1"))),
		txnOf(taken(p("k", "1")), d("a", "z")),
		txnOf(taken(p("k", "1")), taken(p("k", "2"))),
		txnOf(taken(d("k", "")), taken(p("k", "1"))),
		txnOf(taken(taken(d("k", ""))), taken(p("k", "1"))),
		txnOf(taken(taken(p("k", "1"))), p("k", "2")),
		txnOf(txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{p("k", "1")}, Failure: []*pb.RequestOp{p("k", "2")}})),
		txnOf(txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{p("k", "1")}, Failure: []*pb.RequestOp{p("k", "2")}}), p("k", "3")),
		txnOf(txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{d("k", "")}, Failure: []*pb.RequestOp{p("k", "2")}})),
		txnOf(txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{p("k", "1")}, Failure: []*pb.RequestOp{d("k", "")}})),
		txnOf(r("k", ""), p("k", "4"), r("k", "")),
		get("\x00", "\x00"),
	}
}

// One operation each, so that the budget of 128 is that of levels, too. With a budget above it see docs/differences.md.
func deepTxns() []step {
	var steps []step
	for _, levels := range []int{2, 49, 50, 51, 52, 100, 127, 128, 129, 200} {
		txn := &pb.TxnRequest{Success: []*pb.RequestOp{p("deepest", fmt.Sprint(levels))}, Failure: []*pb.RequestOp{d("deepest", "")}}
		for range levels - 1 {
			exists := &pb.Compare{Key: []byte("a"), Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}
			txn = &pb.TxnRequest{Compare: []*pb.Compare{exists}, Success: []*pb.RequestOp{txnOp(txn)}, Failure: []*pb.RequestOp{r("a", "")}}
		}
		steps = append(steps, txnStep(txn))
	}
	return steps
}

// Both a delete and a put of one key in one revision. No compaction follows: see known.go.
func holes() []step {
	sequences := [][]*pb.RequestOp{
		{d("a", "\x00"), p("b", "2"), p("q", "1")},
		{p("b", "3"), d("a", "\x00")},
		{p("b", "4"), p("c", "1"), d("b", "\x00"), p("d", "1")},
		{taken(p("e", "1")), taken(d("e", ""))},
		{taken(p("e", "2")), taken(d("a", "z"))},
		{taken(p("e", "3")), taken(taken(d("e", "")))},
		{taken(p("f", "3")), notTaken(d("f", ""))},
		{d("\x00", "\x00"), p("a", "5"), r("\x00", "\x00"), d("\x00", "\x00"), p("b", "5"), r("\x00", "\x00")},
	}
	steps := []step{watch(0, "\x00", "\x00", 0, withPrevious), watch(0, "b", "", 0), put("a", "1"), put("b", "1")}
	for _, operations := range sequences {
		steps = append(steps, txnOf(operations...), get("\x00", "\x00"), getAt("\x00", "\x00", current(-1)), hashKV(0), drain())
	}
	return append(steps, watch(1, "\x00", "\x00", 1, withPrevious), drain(), restart(), get("\x00", "\x00"), hashKV(0), watch(2, "\x00", "\x00", 1), drain())
}

func nested() []step {
	missing := &pb.Compare{Key: []byte("n"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}}
	return []step{
		// The nested compare is of the state before the txn: n does not exist there.
		txnOf(p("n", "1"), txnOp(&pb.TxnRequest{Compare: []*pb.Compare{missing}, Success: []*pb.RequestOp{p("then", "1")}, Failure: []*pb.RequestOp{p("else", "1")}}), r("\x00", "\x00")),
		get("\x00", "\x00"),
		txnOf(d("n", ""), txnOp(&pb.TxnRequest{Compare: []*pb.Compare{missing}, Success: []*pb.RequestOp{r("then", "")}, Failure: []*pb.RequestOp{r("else", "")}})),
		txnOf(taken(p("x/1", "1"), taken(p("x/2", "2"), taken(p("x/3", "3"), r("x/", "x0")), r("x/", "x0")), d("x/1", "x/1"), r("x/", "x0")), notTaken(p("y", "1")), p("z", "1")),
		get("\x00", "\x00"), hashKV(0),
		txnStep(&pb.TxnRequest{Compare: []*pb.Compare{never()}, Success: []*pb.RequestOp{p("no", "")}, Failure: []*pb.RequestOp{notTaken(p("no", "")), taken(taken(taken(taken(r("z", "")))))}}),
		txnOf(taken(taken(taken(taken(taken(p("deep", "1"))))))),
		get("deep", ""),
	}
}

func txnErrors() []step {
	ignoring := func(key string) *pb.RequestOp {
		return putOp(&pb.PutRequest{Key: []byte(key), IgnoreValue: true})
	}
	at := func(revision int64) *pb.RequestOp {
		return rangeOp(&pb.RangeRequest{Key: []byte("a"), Revision: revision})
	}
	leased := func(lease int64) *pb.RequestOp {
		return putOp(&pb.PutRequest{Key: []byte("leased"), Lease: lease})
	}
	nothing := &pb.RequestOp{}
	steps := []step{put("a", "1"), put("a", "2"), put("a", "3"), compact(3)}
	for _, operation := range []*pb.RequestOp{ignoring("new"), ignoring("a"), putOp(&pb.PutRequest{Key: []byte("new"), IgnoreLease: true}), putOp(&pb.PutRequest{Key: []byte("a"), Value: []byte("v"), IgnoreValue: true}),
		putOp(&pb.PutRequest{Key: []byte("a"), Lease: 4, IgnoreLease: true}), at(-1), at(1), at(2), at(3), at(current(0)), at(current(1)), at(current(2)), leased(99), nothing,
		putOp(&pb.PutRequest{}), deleteOp(&pb.DeleteRangeRequest{}), rangeOp(&pb.RangeRequest{}), rangeOp(&pb.RangeRequest{Key: []byte("a"), SortOrder: 9}), rangeOp(&pb.RangeRequest{Key: []byte("a"), SortTarget: 9})} {
		steps = append(steps,
			txnOf(operation), txnOf(p("first", "x"), operation), txnOf(p("first", "x"), taken(operation)), txnOf(p("first", "x"), notTaken(operation)),
			txnStep(&pb.TxnRequest{Success: []*pb.RequestOp{p("first", "x")}, Failure: []*pb.RequestOp{operation}}), get("\x00", "\x00"))
	}
	return append(steps,
		txnOf(p("made", "1"), ignoring("made")), txnOf(p("made", "1"), taken(ignoring("made"))), txnOf(taken(p("made", "1")), r("made", "")),
		txnStep(&pb.TxnRequest{Compare: []*pb.Compare{{}}}), txnStep(&pb.TxnRequest{Compare: []*pb.Compare{{RangeEnd: []byte("x")}}}),
		txnOf(taken(), txnOp(&pb.TxnRequest{Compare: []*pb.Compare{{}}})), get("\x00", "\x00"), hashKV(0))
}

func txnSizes() []step {
	reads := func(count int) []*pb.RequestOp {
		var operations []*pb.RequestOp
		for i := range count {
			operations = append(operations, r(fmt.Sprint("k", i), ""))
		}
		return operations
	}
	puts := func(count int) []*pb.RequestOp {
		var operations []*pb.RequestOp
		for i := range count {
			operations = append(operations, p(fmt.Sprint("k", i), "v"))
		}
		return operations
	}
	compares := func(count int) (list []*pb.Compare) {
		for range count {
			list = append(list, &pb.Compare{Key: []byte("k")})
		}
		return list
	}
	var steps []step
	for _, count := range []int{127, 128, 129, 300} {
		steps = append(steps, txnOf(reads(count)...), txnOf(puts(count)...), txnStep(&pb.TxnRequest{Compare: compares(count)}),
			txnStep(&pb.TxnRequest{Failure: reads(count)}), txnStep(&pb.TxnRequest{Compare: compares(count), Success: reads(1), Failure: reads(count)}))
	}
	for _, count := range []int{125, 126, 127, 128} { // a nested one gets what its parent leaves
		steps = append(steps, txnOf(taken(reads(count)...)), txnOf(r("a", ""), taken(reads(count)...)), txnOf(taken(taken(reads(count)...))),
			txnStep(&pb.TxnRequest{Compare: compares(2), Success: []*pb.RequestOp{taken(reads(count)...)}}))
	}
	return append(steps, get("k", "l"), hashKV(0))
}

func readsInTxns() []step {
	full := rangeOp(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 2, SortOrder: pb.RangeRequest_DESCEND})
	count := rangeOp(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
	at := func(revision int64) *pb.RequestOp {
		return rangeOp(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
	}
	serializable := rangeOp(&pb.RangeRequest{Key: []byte("a"), Serializable: true})
	steps := []step{
		put("a", "1"), put("b", "1"), put("a", "2"),
		txnOf(full, p("a", "3"), full, p("c", "1"), full, count, d("b", ""), full, count, r("b", ""), at(current(0)), at(current(-1)), at(2)),
		txnOf(p("n", "1"), at(-1)), txnOf(at(-1)), txnOf(p("n", "2"), at(-2)), txnOf(at(-2)), // negative ones, before there is a compaction
		txnOf(at(3), r("a", ""), serializable, full), txnOf(serializable, serializable), txnOf(r("a", ""), at(current(1))),
		txnOf(r("a", ""), taken(r("a", ""), p("d", "1"), r("\x00", "\x00")), r("\x00", "\x00")),
		txnOf(p("e", "1"), rangeOp(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, MinModRevision: current(1), KeysOnly: true})),
		txnOf(putOp(&pb.PutRequest{Key: []byte("e"), Value: []byte("2"), PrevKv: true}), d("e", "e")),
		txnOf(taken(putOp(&pb.PutRequest{Key: []byte("e"), Value: []byte("3"), PrevKv: true})), taken(d("e", ""))),
		get("\x00", "\x00"),
	}
	return slices.Concat(steps, everyRevision(9), everyHash(9))
}
