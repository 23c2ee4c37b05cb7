package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// The client that API servers use: etcd's kubernetes package, and what they do beside it.
func kubernetesChecks() []check {
	return []check{
		{"kubernetes: OptimisticPut and OptimisticDelete", ordinaryLimit, optimistic},
		{"kubernetes: OptimisticPut of many writers loses no update", time.Minute, optimisticRace},
		{"kubernetes: a paged list at an old revision, with exact counts", ordinaryLimit, pagedList},
		{"kubernetes: progress every 100 ms under writes claims only what was delivered", time.Minute, progressUnderWrites},
		{"kubernetes: API servers race for compact_rev_key", time.Minute, compactRace},
		{"kubernetes: events with a lease expire", ordinaryLimit, leasedEvents},
	}
}

func kubernetesClient(c *clientv3.Client) (*kubernetes.Client, error) {
	return kubernetes.New(configuration(c.Endpoints()[0]))
}

func optimistic(ctx context.Context, c *clientv3.Client, prefix string) error {
	k, err := kubernetesClient(c)
	if err != nil {
		return err
	}
	defer k.Close()
	key := prefix + "pods/a"
	created, err := k.Kubernetes.OptimisticPut(ctx, key, []byte("one"), 0, kubernetes.PutOptions{})
	if err != nil {
		return err
	}
	exists, err := k.Kubernetes.OptimisticPut(ctx, key, []byte("other"), 0, kubernetes.PutOptions{})
	if err != nil {
		return err
	}
	updated, err := k.Kubernetes.OptimisticPut(ctx, key, []byte("two"), created.Revision, kubernetes.PutOptions{GetOnFailure: true})
	if err != nil {
		return err
	}
	stale, err := k.Kubernetes.OptimisticPut(ctx, key, []byte("three"), created.Revision, kubernetes.PutOptions{GetOnFailure: true})
	if err != nil {
		return err
	}
	staleDelete, err := k.Kubernetes.OptimisticDelete(ctx, key, created.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil {
		return err
	}
	deleted, err := k.Kubernetes.OptimisticDelete(ctx, key, updated.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil {
		return err
	}
	absent, err := k.Kubernetes.OptimisticDelete(ctx, key, updated.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil {
		return err
	}
	now, err := k.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
	if err != nil {
		return err
	}
	old, err := k.Kubernetes.Get(ctx, key, kubernetes.GetOptions{Revision: updated.Revision})
	if err != nil {
		return err
	}
	return firstOf(
		expect(created.Succeeded, "create: %v", created),
		expect(!exists.Succeeded && exists.Revision == created.Revision && exists.KV == nil, "create again: %v", exists),
		expect(updated.Succeeded && updated.Revision == created.Revision+1, "update: %v", updated),
		expect(!stale.Succeeded && stale.KV != nil && string(stale.KV.Value) == "two" && stale.KV.ModRevision == updated.Revision, "stale update: %v", stale),
		expect(!staleDelete.Succeeded && staleDelete.KV != nil && string(staleDelete.KV.Value) == "two", "stale delete: %v", staleDelete),
		expect(deleted.Succeeded && deleted.Revision == updated.Revision+1, "delete: %v", deleted),
		expect(!absent.Succeeded && absent.KV == nil, "delete of what is gone: %v", absent),
		expect(now.KV == nil && now.Revision == deleted.Revision, "get: %v", now),
		expect(old.KV != nil && string(old.KV.Value) == "two" && old.Revision == deleted.Revision, "get at the old revision: %v", old),
	)
}

func optimisticRace(ctx context.Context, c *clientv3.Client, prefix string) error {
	const writers, updates, attemptsMax = 8, 50, 20_000
	k, err := kubernetesClient(c)
	if err != nil {
		return err
	}
	defer k.Close()
	key := prefix + "counter"
	if _, err := k.Kubernetes.OptimisticPut(ctx, key, []byte("0"), 0, kubernetes.PutOptions{}); err != nil {
		return err
	}
	err = inParallel(writers, func(int) error {
		got, err := k.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
		if err != nil {
			return err
		}
		kv := got.KV
		for done, attempts := 0, 0; done < updates; attempts++ {
			if attempts == attemptsMax {
				return fmt.Errorf("%d updates in %d attempts", done, attempts)
			}
			value, _ := strconv.Atoi(string(kv.Value))
			next := strconv.Itoa(value + 1)
			put, err := k.Kubernetes.OptimisticPut(ctx, key, []byte(next), kv.ModRevision, kubernetes.PutOptions{GetOnFailure: true})
			if err != nil {
				return err
			}
			if !put.Succeeded {
				kv = put.KV
				continue
			}
			done++
			kv.Value, kv.ModRevision = []byte(next), put.Revision
		}
		return nil
	})
	if err != nil {
		return err
	}
	got, err := k.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
	if err != nil {
		return err
	}
	return expect(string(got.KV.Value) == strconv.Itoa(writers*updates) && got.KV.Version == writers*updates+1, "the counter is %s, version %d", got.KV.Value, got.KV.Version)
}

func pagedList(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count, limit = 230, 17
	k, err := kubernetesClient(c)
	if err != nil {
		return err
	}
	defer k.Close()
	pods := prefix + "pods/"
	for i := range count {
		if _, err := k.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("%s%04d", pods, i), []byte("first"), 0, kubernetes.PutOptions{}); err != nil {
			return err
		}
	}
	options := kubernetes.ListOptions{Limit: limit}
	seen := 0
	for page := 0; ; page++ {
		list, err := k.Kubernetes.List(ctx, pods, options)
		if err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
		if list.Count != int64(count-seen) {
			return fmt.Errorf("page %d: count %d, not %d", page, list.Count, count-seen)
		}
		if options.Revision == 0 {
			options.Revision = list.Revision
		}
		for _, kv := range list.Kvs {
			if string(kv.Key) != fmt.Sprintf("%s%04d", pods, seen) || string(kv.Value) != "first" {
				return fmt.Errorf("page %d: key number %d is %q = %q", page, seen, kv.Key, kv.Value)
			}
			seen++
		}
		if int64(len(list.Kvs)) >= list.Count {
			break
		}
		options.Continue = string(list.Kvs[len(list.Kvs)-1].Key) + "\x00"
		if err := disturb(ctx, c, pods, page); err != nil {
			return err
		}
	}
	now, err := k.Kubernetes.Count(ctx, pods, kubernetes.CountOptions{})
	if err != nil {
		return err
	}
	const pages = (count + limit - 1) / limit
	if err := firstOf(expect(seen == count, "%d keys in all pages", seen), expect(now == count-(pages-1), "count now: %d, not %d", now, count-(pages-1))); err != nil {
		return err
	}
	if _, err := c.Compact(ctx, options.Revision+1); err != nil {
		return err
	}
	_, err = k.Kubernetes.List(ctx, pods, options)
	_, future := k.Kubernetes.List(ctx, pods, kubernetes.ListOptions{Revision: options.Revision + 100_000})
	return firstOf(
		expect(errors.Is(err, rpctypes.ErrCompacted), "a page of a compacted revision: %v", err),
		expect(errors.Is(future, rpctypes.ErrFutureRev), "a page of a future revision: %v", future),
	)
}

// Between two pages: one key is overwritten, one is added, two are deleted.
func disturb(ctx context.Context, c *clientv3.Client, pods string, page int) error {
	_, err := c.Txn(ctx).Then(
		clientv3.OpPut(fmt.Sprintf("%s%04d", pods, 200-page), "second"),
		clientv3.OpPut(fmt.Sprintf("%s%04d-new", pods, page), "second"),
		clientv3.OpDelete(fmt.Sprintf("%s%04d", pods, 100+page)),
		clientv3.OpDelete(fmt.Sprintf("%s%04d", pods, 70+page)),
	).Commit()
	return err
}

// What a watch of progressUnderWrites has received, in order: revisions of events, and negated revisions of progress.
type deliveries struct {
	revisions []int64
	progress  int
}

func progressUnderWrites(ctx context.Context, c *clientv3.Client, prefix string) error {
	const watchers, writers, duration = 4, 4, 5 * time.Second
	streamContext, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer stop()
	var watches []clientv3.WatchChan
	start, err := c.Get(ctx, prefix)
	if err != nil {
		return err
	}
	for range watchers {
		watches = append(watches, c.Watch(streamContext, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithRev(start.Header.Revision+1)))
	}

	var mu sync.Mutex
	written := map[int64]bool{}
	end := time.Now().Add(duration)
	var writing sync.WaitGroup
	errs := make(chan error, writers+1)
	for writer := range writers {
		writing.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				put, err := c.Put(ctx, fmt.Sprintf("%sr%d/%d", prefix, writer, i%5), fmt.Sprint(i))
				if err != nil {
					errs <- err
					return
				}
				mu.Lock()
				written[put.Header.Revision] = true
				mu.Unlock()
			}
		})
	}
	asked := make(chan int, 1)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		count := 0
		for ; time.Now().Before(end); count++ {
			if err := c.RequestProgress(streamContext); err != nil {
				errs <- err
			}
			<-ticker.C
		}
		asked <- count
	}()

	done := make(chan int64, 1)
	go func() {
		writing.Wait()
		last, err := c.Put(ctx, prefix+"zz-last", "")
		if err != nil {
			errs <- err
			stop()
			return
		}
		mu.Lock()
		written[last.Header.Revision] = true
		mu.Unlock()
		done <- last.Header.Revision
	}()
	received := make([]deliveries, watchers)
	err = inParallel(watchers, func(i int) error { return received[i].collect(ctx, watches[i], prefix+"zz-last") })
	if err != nil {
		return err
	}
	select {
	case err := <-errs:
		return err
	case <-done:
	}
	requests := <-asked
	for i := range received {
		if err := received[i].check(written, requests); err != nil {
			return fmt.Errorf("watch %d: %w", i, err)
		}
	}
	return nil
}

// Notes what arrives, until the event of the last key.
func (d *deliveries) collect(ctx context.Context, watch clientv3.WatchChan, lastKey string) error {
	for {
		select {
		case response, ok := <-watch:
			if !ok || response.Err() != nil {
				return fmt.Errorf("the watch ended: %v", response.Err())
			}
			if response.IsProgressNotify() {
				d.progress++
				d.revisions = append(d.revisions, -response.Header.Revision)
			}
			for _, event := range response.Events {
				if !event.IsCreate() && event.PrevKv == nil {
					return fmt.Errorf("no previous value with %s at revision %d", describe(event), event.Kv.ModRevision)
				}
				d.revisions = append(d.revisions, event.Kv.ModRevision)
				if string(event.Kv.Key) == lastKey {
					return nil
				}
			}
		case <-ctx.Done():
			return fmt.Errorf("the last event did not come; %d responses did", len(d.revisions))
		}
	}
}

func (d *deliveries) check(written map[int64]bool, requests int) error {
	claimed, last, delivered := int64(0), int64(0), 0
	for _, revision := range d.revisions {
		switch {
		case revision < 0:
			if -revision < claimed {
				return fmt.Errorf("progress went back from %d to %d", claimed, -revision)
			}
			claimed = -revision
			continue
		case revision <= claimed:
			return fmt.Errorf("revision %d came after progress had claimed %d", revision, claimed)
		case revision <= last:
			return fmt.Errorf("revision %d came after %d", revision, last)
		case !written[revision]:
			return fmt.Errorf("an event of revision %d, which nobody wrote", revision)
		}
		last = revision
		delivered++
	}
	return firstOf(
		expect(delivered == len(written), "%d of %d writes were delivered", delivered, len(written)),
		expect(d.progress >= requests/4, "only %d answers to %d progress requests", d.progress, requests),
	)
}

// What each API server does every few minutes, here as fast as it can: whoever moves compact_rev_key on compacts the revision before.
func compactRace(ctx context.Context, c *clientv3.Client, prefix string) error {
	const servers, rounds = 5, 40
	key := prefix + "compact_rev_key"
	var mu sync.Mutex
	wins := map[int64]int{} // by version of the key
	var compactedTo int64
	err := inParallel(servers, func(server int) error {
		version, revision := int64(0), int64(0)
		for round := range rounds {
			if _, err := c.Put(ctx, fmt.Sprint(prefix, "pods/", server), fmt.Sprint(round)); err != nil {
				return err
			}
			txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", version)).Then(clientv3.OpPut(key, fmt.Sprint(revision))).Else(clientv3.OpGet(key)).Commit()
			if err != nil {
				return err
			}
			if !txn.Succeeded {
				version, revision = txn.Responses[0].GetResponseRange().Kvs[0].Version, txn.Header.Revision
				continue
			}
			version++
			mu.Lock()
			wins[version]++
			mu.Unlock()
			if revision > 0 {
				// Another one may have been faster with a later revision: that is no error.
				if _, err := c.Compact(ctx, revision); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
					return err
				}
				mu.Lock()
				compactedTo = max(compactedTo, revision)
				mu.Unlock()
			}
			revision = txn.Header.Revision
		}
		return nil
	})
	if err != nil {
		return err
	}
	for version, count := range wins {
		if count != 1 {
			return fmt.Errorf("%d servers won version %d", count, version)
		}
	}
	got, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	if err := firstOf(
		expect(got.Kvs[0].Version == int64(len(wins)), "the key has version %d after %d wins", got.Kvs[0].Version, len(wins)),
		expect(len(wins) >= rounds/2, "only %d wins", len(wins)),
	); err != nil {
		return err
	}
	_, before := c.Get(ctx, key, clientv3.WithRev(compactedTo-1))
	_, at := c.Get(ctx, key, clientv3.WithRev(compactedTo))
	return firstOf(expect(errors.Is(before, rpctypes.ErrCompacted), "get before the compacted revision %d: %v", compactedTo, before), expect(at == nil, "get at the compacted revision %d: %v", compactedTo, at))
}

func leasedEvents(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count = 200
	k, err := kubernetesClient(c)
	if err != nil {
		return err
	}
	defer k.Close()
	watch := c.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-watch
	lease, err := c.Grant(ctx, 5)
	if err != nil {
		return err
	}
	for i := range count {
		if _, err := k.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("%sevents/%04d", prefix, i), []byte("e"), 0, kubernetes.PutOptions{LeaseID: lease.ID}); err != nil {
			return err
		}
	}
	events, err := take(ctx, watch, 2*count)
	if err != nil {
		return err
	}
	for i, event := range events[count:] {
		if string(event.Kv.Key) != fmt.Sprintf("%sevents/%04d", prefix, i) || event.PrevKv == nil || event.Kv.ModRevision != events[count].Kv.ModRevision {
			return fmt.Errorf("event %d of the expiry is %s at revision %d", i, describe(event), event.Kv.ModRevision)
		}
	}
	left, err := k.Kubernetes.Count(ctx, prefix, kubernetes.CountOptions{})
	if err != nil {
		return err
	}
	return expect(left == 0, "%d keys are left", left)
}
