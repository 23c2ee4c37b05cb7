package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Compaction at every revision of a rich history, one script each, with everything read and hashed at every revision before and after; and all of them in turn.
func historyScripts() []sequence {
	scripts := []sequence{script("hashes of a rich history", richHistory(), everyRevision(historyEnd), everyHash(historyEnd))}
	for revision := int64(2); revision <= historyEnd; revision++ {
		var watches []step
		for start := revision - 1; start <= historyEnd+1; start++ {
			watches = append(watches, watch(int(start), "\x00", "\x00", start, withPrevious))
		}
		scripts = append(scripts, script(fmt.Sprintf("compaction at revision %d of a rich history", revision),
			richHistory(), compact(revision), everyHash(historyEnd), everyRevision(historyEnd), watches, drain(), compact(revision), compact(revision-1),
			put("a", "after"), remove("a", ""), put("t/1", "after"), drain(), get("\x00", "\x00"), everyHash(historyEnd+3)))
	}
	var inTurn []step
	for revision := int64(0); revision <= historyEnd; revision++ {
		inTurn = append(inTurn, compact(revision))
		inTurn = append(inTurn, everyHash(historyEnd)...)
		inTurn = append(inTurn, getAt("\x00", "\x00", revision), get("\x00", "\x00"))
	}
	var leaps []step
	for _, revision := range []int64{5, 9, 10, 14, 16} {
		leaps = append(leaps, call("KV/Compact", &pb.CompactionRequest{Revision: revision}))
		leaps = append(leaps, everyRevision(historyEnd)...)
		leaps = append(leaps, everyHash(historyEnd)...)
	}
	var manyCompactions []step
	for i := range 14 { // HashKV remembers the last ten compactions
		manyCompactions = append(manyCompactions, put("a", fmt.Sprint(i)), put(fmt.Sprint("b", i%3), "x"), compact(current(0)))
	}
	return append(scripts,
		script("compactions in turn", richHistory(), inTurn, restart(), everyHash(historyEnd), get("\x00", "\x00")),
		script("compactions that are not waited for", richHistory(), leaps),
		script("more compactions than HashKV remembers", manyCompactions, everyHash(30), restart(), everyHash(30)),
		script("compaction errors", put("a", "1"), compact(-5), compact(-1), compact(3), compact(100), compact(0), compact(0), compact(-1), hashKV(0), hashKV(1), compact(1), compact(1), compact(2), compact(2), compact(3),
			put("a", "2"), compact(3), getAt("a", "", 2), getAt("a", "", 3), everyHash(4)),
		script("restarts", richHistory(), restart(), everyRevision(historyEnd), everyHash(historyEnd), leases(), put("a", "5"), grant(8, leaseSeconds), putLeased("l/9", "9", 8), compact(12), restart(),
			get("\x00", "\x00"), everyRevision(historyEnd+3), everyHash(historyEnd+3), timeToLive(8), leases(), revoke(8), get("\x00", "\x00"), watch(0, "\x00", "\x00", 13, withPrevious), drain(),
			restart(), restart(), get("\x00", "\x00"), hashKV(0), remove("\x00", "\x00"), restart(), get("\x00", "\x00"), put("a", "6"), get("a", ""), hashKV(0)),
		script("a restart of a fresh store", restart(), get("\x00", "\x00"), hashKV(0), put("a", "1"), get("a", "")),
	)
}
