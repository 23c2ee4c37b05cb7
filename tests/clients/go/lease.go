package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func leaseChecks() []check {
	return []check{
		{"leases: grant, attach, time to live, revoke", ordinaryLimit, leaseBasics},
		{"leases: kept alive beyond their time, then expired", time.Minute, leaseKeepAliveAndExpiry},
	}
}

func leaseBasics(ctx context.Context, c *clientv3.Client, prefix string) error {
	lease, err := c.Grant(ctx, 1000)
	if err != nil {
		return err
	}
	for _, key := range []string{"b", "a", "c"} {
		if _, err := c.Put(ctx, prefix+key, "1", clientv3.WithLease(lease.ID)); err != nil {
			return err
		}
	}
	if _, err := c.Put(ctx, prefix+"c", "2"); err != nil { // takes c away from the lease
		return err
	}
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	all, err := c.Leases(ctx)
	if err != nil {
		return err
	}
	listed := false
	for _, one := range all.Leases {
		listed = listed || one.ID == lease.ID
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	rest, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	after, err := c.TimeToLive(ctx, lease.ID)
	if err != nil {
		return err
	}
	return firstOf(
		expect(lease.TTL == 1000, "granted %d s", lease.TTL),
		expect(left.GrantedTTL == 1000 && left.TTL > 900 && left.TTL <= 1000 && len(left.Keys) == 2, "time to live answers %v", left),
		expect(listed, "the list of leases lacks it"),
		expect(len(rest.Kvs) == 1 && string(rest.Kvs[0].Key) == prefix+"c", "after revoke there is %v", rest.Kvs),
		expect(after.TTL == -1, "after revoke the time to live is %d", after.TTL),
	)
}

func leaseKeepAliveAndExpiry(ctx context.Context, c *clientv3.Client, prefix string) error {
	const seconds = 4 // long enough for a slow machine to renew in time
	lease, err := c.Grant(ctx, seconds)
	if err != nil {
		return err
	}
	for _, key := range []string{"x", "y"} {
		if _, err := c.Put(ctx, prefix+key, "v", clientv3.WithLease(lease.ID)); err != nil {
			return err
		}
	}
	watch := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-watch
	alive, stop := context.WithCancel(ctx)
	defer stop()
	renewals, err := c.KeepAlive(alive, lease.ID)
	if err != nil {
		return err
	}
	began := time.Now()
	for count := 0; time.Since(began) < 2*seconds*time.Second; count++ {
		select {
		case renewal, ok := <-renewals:
			if !ok || renewal.TTL != seconds {
				return fmt.Errorf("renewal %d is %v", count, renewal)
			}
		case response := <-watch:
			return fmt.Errorf("while it is kept alive the watch says %v", response)
		case <-ctx.Done():
			return errors.New("no renewal in time")
		}
	}
	stop()
	stopped := time.Now()
	events, err := take(ctx, watch, 2)
	if err != nil {
		return fmt.Errorf("after the last renewal: %w", err)
	}
	took := time.Since(stopped)
	for i, event := range events {
		if event.Type != mvccpb.DELETE || string(event.Kv.Key) != prefix+[]string{"x", "y"}[i] || event.PrevKv == nil || string(event.PrevKv.Value) != "v" {
			return fmt.Errorf("event %d of the expiry is %s", i, describe(event))
		}
	}
	_, gone := c.KeepAliveOnce(ctx, lease.ID)
	return firstOf(
		expect(events[0].Kv.ModRevision == events[1].Kv.ModRevision, "the keys went at revisions %d and %d", events[0].Kv.ModRevision, events[1].Kv.ModRevision),
		expect(took < (seconds+8)*time.Second, "the lease expired only %s after its last renewal", took),
		expect(errors.Is(gone, rpctypes.ErrLeaseNotFound), "renewing it afterwards: %v", gone),
	)
}
