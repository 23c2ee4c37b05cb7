package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Makes random sequences: the same seed, the same steps.
type generator struct {
	*rand.Rand
	keys  [][]byte
	steps []step
}

const (
	smallLeasesMax  = 12      // lease ids are 1 to this, so that known and unknown ones both occur
	leaseSeconds    = 100_000 // far from expiring while a sequence runs
	streamsMax      = 3
	longValueBytes  = 3000
	maxRequestBytes = 1_572_864 // of etcd by default
	maxMessageBytes = maxRequestBytes + 512*1024
)

func generate(seed uint64, count int) []step {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
	g.keys = g.keyPool()
	for len(g.steps) < count {
		g.one()
	}
	return g.steps
}

// Keys that are prefixes of each other, hold NUL and 0xff, and sort next to each other.
func (g *generator) keyPool() [][]byte {
	fixed := []string{"a", "a\x00", "a\x00\x00", "a\x00b", "aa", "aaa", "ab", "a\xff", "a\xff\xff", "b", "b\x00", "ba", "\x00", "\x00\x00", "\x00a",
		"\xff", "\xff\xff", "\xff\xff\xff", "\xff\x00", "foo", "foo/", "foo/a", "foo/b", "foo/b/c", "foo0", "z", "compact_rev_key", "/registry/pods/x/y", "/registry/pods/x/z"}
	var keys [][]byte
	for _, key := range fixed {
		keys = append(keys, []byte(key))
	}
	letters := []byte("ab/\x00\xff")
	for range 25 {
		key := make([]byte, 1+g.IntN(5))
		for i := range key {
			key[i] = letters[g.IntN(len(letters))]
		}
		keys = append(keys, key)
	}
	keys = append(keys, bytes.Repeat([]byte("long"), 100), bytes.Repeat([]byte{0xff}, 700))
	for i := range 20 {
		keys = append(keys, fmt.Appendf(nil, "many/%03d", i))
	}
	return keys
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) key() []byte { return g.keys[g.IntN(len(g.keys))] }

func (g *generator) value() []byte {
	switch n := g.IntN(20); {
	case n == 0:
		return nil
	case n == 1:
		return bytes.Repeat([]byte{byte(g.IntN(256))}, g.IntN(longValueBytes))
	case n < 8:
		return []byte(fmt.Sprint(g.IntN(6))) // few values, so that compares hit
	}
	value := make([]byte, g.IntN(16))
	for i := range value {
		value[i] = byte(g.IntN(256))
	}
	return value
}

func (g *generator) lease() int64 { return int64(1 + g.IntN(smallLeasesMax)) }

// Key and range end of every form.
func (g *generator) span() (key, end []byte) {
	key = g.key()
	switch n := g.IntN(20); {
	case n < 6:
		return key, nil
	case n < 10:
		other := g.key()
		if bytes.Compare(key, other) > 0 {
			key, other = other, key
		}
		return key, other
	case n < 14:
		return key, prefixEnd(key)
	case n < 15:
		return key, []byte{0}
	case n < 17:
		return []byte{0}, []byte{0}
	case n < 18:
		return key, key
	case n < 19:
		return key, g.key()
	}
	return []byte("m"), []byte("n")
}

// The first key behind all keys that begin with prefix; a single NUL, which means no end, if there is none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte{}, prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return []byte{0}
}

// Mostly a revision that can be read; sometimes compacted, future or negative ones.
func (g *generator) revision() int64 {
	switch n := g.IntN(20); {
	case n < 10:
		return readable(g.Int64N(symbolSpan))
	case n < 13:
		return current(-g.Int64N(4))
	case n < 15:
		return compacted(g.Int64N(4) - 1)
	case n < 17:
		return history(g.Int64N(symbolSpan))
	case n < 19:
		return current(1 + g.Int64N(3))
	}
	return -g.Int64N(5)
}

func (g *generator) add(s step) { g.steps = append(g.steps, s) }

func (g *generator) one() {
	kinds := []struct {
		weight int
		make   func()
	}{
		{240, func() { g.add(call("KV/Put", g.put())) }},
		{210, func() { g.add(call("KV/Range", g.rangeRequest())) }},
		{40, g.rangeStream},
		{60, func() { g.add(call("KV/DeleteRange", g.deleteRange())) }},
		{200, func() { g.add(call("KV/Txn", g.txn(0))) }},
		{110, g.leaseStep},
		{55, g.watchCreate},
		{30, g.watchCancel},
		{20, g.watchProgress},
		{15, func() { g.add(step{kind: stepDrain}) }},
		{30, g.hashKV},
		{12, g.compaction},
		{6, g.alarm},
		{6, func() { g.add(call("Maintenance/Status", &pb.StatusRequest{})) }},
		{6, func() { g.add(call("Cluster/MemberList", &pb.MemberListRequest{Linearizable: g.chance(50)})) }},
		{25, g.badInput},
		{1, func() { g.add(step{kind: stepRestart}) }},
	}
	total := 0
	for _, kind := range kinds {
		total += kind.weight
	}
	choice := g.IntN(total)
	for _, kind := range kinds {
		if choice -= kind.weight; choice < 0 {
			kind.make()
			return
		}
	}
}

func (g *generator) put() *pb.PutRequest {
	request := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(40)}
	if g.chance(25) {
		request.Lease = g.lease()
	}
	if g.chance(8) {
		request.IgnoreValue = true
		if g.chance(90) {
			request.Value = nil
		}
	}
	if g.chance(8) {
		request.IgnoreLease = true
		if g.chance(90) {
			request.Lease = 0
		}
	}
	if g.chance(1) {
		request.Key = nil
	}
	return request
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	request := &pb.DeleteRangeRequest{PrevKv: g.chance(50)}
	request.Key, request.RangeEnd = g.span()
	if len(request.RangeEnd) > 0 && bytes.Equal(request.Key, []byte{0}) && g.chance(70) {
		request.RangeEnd = nil // an empty store is dull
	}
	if g.chance(1) {
		request.Key = nil
	}
	return request
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	request := &pb.RangeRequest{Serializable: g.chance(20), KeysOnly: g.chance(20), CountOnly: g.chance(10)}
	request.Key, request.RangeEnd = g.span()
	if g.chance(40) {
		request.Limit = int64(g.IntN(12)) - 1
	}
	if g.chance(35) {
		request.Revision = g.revision()
	}
	if g.chance(40) {
		request.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		request.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.chance(2) {
		request.SortOrder = pb.RangeRequest_SortOrder(3 + g.IntN(3))
	}
	if g.chance(2) {
		request.SortTarget = pb.RangeRequest_SortTarget(5 + g.IntN(3))
	}
	if g.chance(15) {
		for _, filter := range []*int64{&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision} {
			if g.chance(40) {
				*filter = g.revision()
			}
		}
	}
	if g.chance(1) {
		request.Key = nil
	}
	return request
}

func (g *generator) rangeStream() {
	request := g.rangeRequest()
	if g.chance(80) { // most others are refused
		request.SortOrder, request.SortTarget = 0, 0
		request.MinModRevision, request.MaxModRevision, request.MinCreateRevision, request.MaxCreateRevision = 0, 0, 0, 0
	}
	g.add(step{kind: stepRangeStream, message: request})
}

func (g *generator) hashKV() {
	revision := int64(0)
	if g.chance(70) {
		revision = g.revision()
	}
	g.add(call("Maintenance/HashKV", &pb.HashKVRequest{Revision: revision}))
}

func (g *generator) compaction() {
	request := &pb.CompactionRequest{Physical: g.chance(50)}
	switch n := g.IntN(10); {
	case n < 4:
		request.Revision = readable(g.Int64N(symbolSpan))
	case n < 6:
		request.Revision = current(-g.Int64N(6))
	case n < 7:
		request.Revision = current(1 + g.Int64N(3))
	case n < 8:
		request.Revision = compacted(g.Int64N(3) - 1)
	case n < 9: // on a store that was never compacted this one succeeds; nothing but physical tells when it is done
		request.Revision, request.Physical = 0, true
	default:
		request.Revision = -g.Int64N(4)
		request.Physical = true
	}
	g.add(call("KV/Compact", request))
}

// Raises an alarm, does a few things under it, and takes it away.
func (g *generator) alarm() {
	kind := pb.AlarmType(1 + g.IntN(2))
	member := uint64(0)
	if g.chance(50) {
		member = symbolMember
	}
	alarm := func(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) {
		g.add(call("Maintenance/Alarm", &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind}))
	}
	alarm(pb.AlarmRequest_GET, pb.AlarmType(g.IntN(3)))
	alarm(pb.AlarmRequest_ACTIVATE, kind)
	for range 1 + g.IntN(6) {
		switch g.IntN(8) {
		case 0:
			g.add(call("KV/Range", g.rangeRequest()))
		case 1:
			g.add(call("KV/DeleteRange", g.deleteRange()))
		case 2:
			g.add(call("KV/Txn", g.txn(0)))
		case 3:
			g.compaction()
		case 4:
			g.leaseStep()
		case 5:
			alarm(pb.AlarmRequest_ACTIVATE, kind)
		case 6:
			g.add(call("Maintenance/Status", &pb.StatusRequest{}))
		default:
			g.add(call("KV/Put", g.put()))
		}
	}
	alarm(pb.AlarmRequest_GET, pb.AlarmType_NONE)
	alarm(pb.AlarmRequest_DEACTIVATE, kind)
	alarm(pb.AlarmRequest_DEACTIVATE, kind)
}
