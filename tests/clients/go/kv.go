package main

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func kvChecks() []check {
	return []check{
		{"put, get and delete with previous values", ordinaryLimit, putGetDelete},
		{"prefix, order, limit, revision and count", ordinaryLimit, prefixes},
		{"transactions", ordinaryLimit, transactions},
		{"errors have etcd's types", ordinaryLimit, errorTypes},
		{"status, members and hash", ordinaryLimit, maintenance},
		{"a range stream", ordinaryLimit, rangeStream},
	}
}

func putGetDelete(ctx context.Context, c *clientv3.Client, prefix string) error {
	first, err := c.Put(ctx, prefix+"a", "1", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	second, err := c.Put(ctx, prefix+"a", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, prefix+"a")
	if err != nil {
		return err
	}
	if err := firstOf(
		expect(first.PrevKv == nil, "the first put has a previous value: %v", first.PrevKv),
		expect(second.PrevKv != nil && string(second.PrevKv.Value) == "1", "the second put's previous value is %v", second.PrevKv),
		expect(second.Header.Revision == first.Header.Revision+1, "revisions %d and %d", first.Header.Revision, second.Header.Revision),
		expect(len(got.Kvs) == 1 && got.Count == 1 && !got.More, "get answers %v", got),
	); err != nil {
		return err
	}
	kv := got.Kvs[0]
	if err := expect(string(kv.Value) == "2" && kv.Version == 2 && kv.CreateRevision == first.Header.Revision && kv.ModRevision == second.Header.Revision, "get answers %v", kv); err != nil {
		return err
	}
	deleted, err := c.Delete(ctx, prefix+"a", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	again, err := c.Delete(ctx, prefix+"a", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	gone, err := c.Get(ctx, prefix+"a")
	if err != nil {
		return err
	}
	old, err := c.Get(ctx, prefix+"a", clientv3.WithRev(first.Header.Revision))
	if err != nil {
		return err
	}
	return firstOf(
		expect(deleted.Deleted == 1 && len(deleted.PrevKvs) == 1 && string(deleted.PrevKvs[0].Value) == "2", "delete answers %v", deleted),
		expect(again.Deleted == 0 && len(again.PrevKvs) == 0 && again.Header.Revision == deleted.Header.Revision, "the second delete answers %v", again),
		expect(len(gone.Kvs) == 0 && gone.Count == 0, "after the delete get answers %v", gone),
		expect(len(old.Kvs) == 1 && string(old.Kvs[0].Value) == "1" && old.Header.Revision == deleted.Header.Revision, "at the old revision get answers %v", old),
	)
}

func prefixes(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count = 100
	var last int64
	for i := range count {
		put, err := c.Put(ctx, fmt.Sprintf("%sk/%03d", prefix, (i*37)%count), fmt.Sprint(i))
		if err != nil {
			return err
		}
		last = put.Header.Revision
	}
	if _, err := c.Put(ctx, prefix+"k0", "just behind"); err != nil {
		return err
	}
	keys := prefix + "k/"
	all, err := c.Get(ctx, keys, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for i, kv := range all.Kvs {
		if string(kv.Key) != fmt.Sprintf("%s%03d", keys, i) {
			return fmt.Errorf("key number %d of the prefix is %q", i, kv.Key)
		}
	}
	newest, err := c.Get(ctx, keys, append(clientv3.WithLastRev(), clientv3.WithPrefix())...)
	if err != nil {
		return err
	}
	page, err := c.Get(ctx, keys, clientv3.WithPrefix(), clientv3.WithLimit(10), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	counted, err := c.Get(ctx, keys, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(last-50))
	if err != nil {
		return err
	}
	half, err := c.Delete(ctx, keys+"050", clientv3.WithRange(keys+"~"))
	if err != nil {
		return err
	}
	rest, err := c.Get(ctx, keys, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	return firstOf(
		expect(len(all.Kvs) == count && all.Count == count, "the prefix has %d keys, count %d", len(all.Kvs), all.Count),
		expect(len(newest.Kvs) == 1 && newest.Kvs[0].ModRevision == last, "the newest is %v", newest.Kvs),
		expect(len(page.Kvs) == 10 && page.More && page.Count == count && string(page.Kvs[0].Key) == keys+"099" && len(page.Kvs[0].Value) == 0, "the descending page is %v", page),
		expect(counted.Count == 50 && len(counted.Kvs) == 0, "the count at the old revision is %d", counted.Count),
		expect(half.Deleted == 50 && rest.Count == 50, "deleted %d, %d remain", half.Deleted, rest.Count),
	)
}

func transactions(ctx context.Context, c *clientv3.Client, prefix string) error {
	a, b := prefix+"a", prefix+"b"
	create := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(a), "=", 0)).Then(clientv3.OpPut(a, "1"), clientv3.OpPut(b, "1"), clientv3.OpGet(prefix, clientv3.WithPrefix())).Else(clientv3.OpGet(a))
	first, err := create.Commit()
	if err != nil {
		return err
	}
	second, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(a), "=", 0)).Then(clientv3.OpPut(a, "2")).Else(clientv3.OpGet(a)).Commit()
	if err != nil {
		return err
	}
	third, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value(a), "=", "1"), clientv3.Compare(clientv3.Version(prefix).WithPrefix(), ">", 0)).
		Then(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(b), "=", first.Header.Revision)}, []clientv3.Op{clientv3.OpDelete(b), clientv3.OpPut(a, "3")}, nil)).Commit()
	if err != nil {
		return err
	}
	left, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return firstOf(
		expect(first.Succeeded && len(first.Responses) == 3 && len(first.Responses[2].GetResponseRange().GetKvs()) == 2, "the first answers %v", first),
		expect(!second.Succeeded && second.Header.Revision == first.Header.Revision && string(second.Responses[0].GetResponseRange().GetKvs()[0].Value) == "1", "the second answers %v", second),
		expect(third.Succeeded && third.Responses[0].GetResponseTxn().GetSucceeded() && third.Header.Revision == first.Header.Revision+1, "the third answers %v", third),
		expect(len(left.Kvs) == 1 && string(left.Kvs[0].Value) == "3" && left.Kvs[0].Version == 2, "what is left is %v", left.Kvs),
	)
}

func errorTypes(ctx context.Context, c *clientv3.Client, prefix string) error {
	put, err := c.Put(ctx, prefix+"a", "1")
	if err != nil {
		return err
	}
	_, empty := c.Put(ctx, "", "x")
	_, future := c.Get(ctx, prefix+"a", clientv3.WithRev(put.Header.Revision+1000))
	_, lease := c.Put(ctx, prefix+"a", "x", clientv3.WithLease(123456789))
	_, large := c.Put(ctx, prefix+"a", string(make([]byte, 1_800_000)))
	_, duplicate := c.Txn(ctx).Then(clientv3.OpPut(prefix+"a", "1"), clientv3.OpPut(prefix+"a", "2")).Commit()
	_, revoked := c.Revoke(ctx, 123456789)
	_, keyless := c.Put(ctx, prefix+"missing", "", clientv3.WithIgnoreValue())
	var operations []clientv3.Op
	for i := range 200 {
		operations = append(operations, clientv3.OpGet(fmt.Sprint(prefix, i)))
	}
	_, many := c.Txn(ctx).Then(operations...).Commit()
	is := func(what string, err, want error) error {
		return expect(errors.Is(err, want), "%s: %v, not %v", what, err, want)
	}
	return firstOf(
		is("an empty key", empty, rpctypes.ErrEmptyKey), is("a future revision", future, rpctypes.ErrFutureRev), is("an unknown lease", lease, rpctypes.ErrLeaseNotFound),
		is("a large request", large, rpctypes.ErrRequestTooLarge), is("a duplicate key", duplicate, rpctypes.ErrDuplicateKey), is("revoking an unknown lease", revoked, rpctypes.ErrLeaseNotFound),
		is("ignore_value of a missing key", keyless, rpctypes.ErrKeyNotFound), is("too many operations", many, rpctypes.ErrTooManyOps),
	)
}

func maintenance(ctx context.Context, c *clientv3.Client, prefix string) error {
	put, err := c.Put(ctx, prefix+"a", "1")
	if err != nil {
		return err
	}
	endpoint := c.Endpoints()[0]
	status, err := c.Status(ctx, endpoint)
	if err != nil {
		return err
	}
	members, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	hash, err := c.HashKV(ctx, endpoint, 0)
	if err != nil {
		return err
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		return err
	}
	return firstOf(
		expect(status.Version == "3.7.1" && status.Leader == status.Header.MemberId && status.DbSize > 0 && !status.IsLearner && len(status.Errors) == 0, "status answers %v", status),
		expect(len(members.Members) == 1 && members.Members[0].ID == status.Header.MemberId && len(members.Members[0].ClientURLs) > 0, "the members are %v", members.Members),
		expect(hash.HashRevision == put.Header.Revision && hash.Hash != 0, "the hash is %v", hash),
		expect(len(alarms.Alarms) == 0, "alarms: %v", alarms.Alarms),
	)
}

func rangeStream(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count = 300
	for i := range count {
		if _, err := c.Put(ctx, fmt.Sprintf("%s%03d", prefix, i), string(make([]byte, 2000))); err != nil {
			return err
		}
	}
	stream, err := c.GetStream(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	joined, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		return err
	}
	if err := expect(len(joined.Kvs) == count && joined.Count == count && !joined.More && joined.Header != nil, "%d keys, count %d", len(joined.Kvs), joined.Count); err != nil {
		return err
	}
	for i, kv := range joined.Kvs {
		if string(kv.Key) != fmt.Sprintf("%s%03d", prefix, i) {
			return fmt.Errorf("key number %d is %q", i, kv.Key)
		}
	}
	return nil
}
