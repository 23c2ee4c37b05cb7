package main

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Shrinking: leaves steps out as long as a difference, any difference, remains. It is bounded by attempts and by time.
type shrinker struct {
	run      func([]step) (*difference, error)
	attempts int
	deadline time.Time
	steps    []step
	found    *difference
}

func shrink(run func([]step) (*difference, error), steps []step, found *difference, attempts int, limit time.Duration) ([]step, *difference) {
	k := &shrinker{run: run, attempts: attempts, deadline: time.Now().Add(limit), found: found}
	k.keep(steps, found)
	k.shortestEnd()
	k.leaveOut()
	k.leaveOutOfTxns()
	return k.steps, k.found
}

// Keeps what led to the difference; what follows it is of no use.
func (k *shrinker) keep(steps []step, found *difference) {
	k.steps, k.found = append([]step{}, steps[:min(found.index+1, len(steps))]...), found
}

// Whether the steps still show a difference; if so they are kept.
func (k *shrinker) try(steps []step) bool {
	if k.attempts == 0 || time.Now().After(k.deadline) {
		return false
	}
	k.attempts--
	found, err := k.run(steps)
	if err != nil || found == nil {
		return false
	}
	k.keep(steps, found)
	return true
}

func (k *shrinker) isSpent() bool { return k.attempts == 0 || time.Now().After(k.deadline) }

// Many differences need no more than the last few steps.
func (k *shrinker) shortestEnd() {
	all := k.steps
	for length := 1; length < len(all); length *= 4 {
		if k.try(all[len(all)-length:]) || k.isSpent() {
			return
		}
	}
}

// Delta debugging: leaves out ever smaller runs of steps.
func (k *shrinker) leaveOut() {
	for size := (len(k.steps) + 1) / 2; size >= 1; {
		left := false
		for from := 0; from < len(k.steps) && !k.isSpent(); {
			to := min(from+size, len(k.steps))
			without := append(append([]step{}, k.steps[:from]...), k.steps[to:]...)
			if len(without) > 0 && k.try(without) {
				left = true
				continue // the steps from here on are others now
			}
			from = to
		}
		if k.isSpent() || size == 1 && !left {
			return
		}
		if !left || size > len(k.steps) {
			size = max(size/2, 1)
		}
	}
}

// Leaves compares and operations out of the txns that remain.
func (k *shrinker) leaveOutOfTxns() {
	for i := 0; i < len(k.steps); i++ {
		for k.isTxn(i) && k.leaveOneOut(i) {
		}
	}
}

func (k *shrinker) isTxn(i int) bool {
	if i >= len(k.steps) || k.isSpent() {
		return false
	}
	_, ok := k.steps[i].message.(*pb.TxnRequest)
	return ok
}

func (k *shrinker) leaveOneOut(i int) bool {
	for part := 0; ; part++ {
		txn := proto.Clone(k.steps[i].message).(*pb.TxnRequest)
		left := part
		if !removePart(txn, &left) {
			return false
		}
		steps := append([]step{}, k.steps...)
		steps[i].message = txn
		if k.try(steps) {
			return true
		}
		if k.isSpent() {
			return false
		}
	}
}

// Removes the compare or operation with the number *left of the whole tree. False if there are fewer.
func removePart(txn *pb.TxnRequest, left *int) bool {
	if *left < len(txn.Compare) {
		txn.Compare = append(txn.Compare[:*left:*left], txn.Compare[*left+1:]...)
		return true
	}
	*left -= len(txn.Compare)
	for _, branch := range []*[]*pb.RequestOp{&txn.Success, &txn.Failure} {
		for i, operation := range *branch {
			if *left == 0 {
				*branch = append((*branch)[:i:i], (*branch)[i+1:]...)
				return true
			}
			*left--
			if nested := operation.GetRequestTxn(); nested != nil && removePart(nested, left) {
				return true
			}
		}
	}
	return false
}
