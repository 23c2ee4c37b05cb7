package main

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func watchChecks() []check {
	return []check{
		{"watch of a prefix with previous values", ordinaryLimit, watchPrefix},
		{"watch from an old revision", ordinaryLimit, watchPast},
		{"watch filters and keys", ordinaryLimit, watchFilters},
		{"watch of a compacted revision", ordinaryLimit, watchCompacted},
		{"a hundred watches see the same", ordinaryLimit, manyWatches},
	}
}

// Takes events from a watch until there are count of them.
func take(ctx context.Context, watch clientv3.WatchChan, count int) ([]*clientv3.Event, error) {
	var events []*clientv3.Event
	for len(events) < count {
		select {
		case response, ok := <-watch:
			if !ok {
				return events, fmt.Errorf("the watch ended after %d of %d events", len(events), count)
			}
			if err := response.Err(); err != nil {
				return events, fmt.Errorf("after %d of %d events: %w", len(events), count, err)
			}
			events = append(events, response.Events...)
		case <-ctx.Done():
			return events, fmt.Errorf("%d of %d events in time", len(events), count)
		}
	}
	if len(events) != count {
		return events, fmt.Errorf("%d events, not %d", len(events), count)
	}
	return events, nil
}

func describe(event *clientv3.Event) string {
	text := fmt.Sprintf("%s %s=%q", event.Type, event.Kv.Key, event.Kv.Value)
	if event.PrevKv != nil {
		text += fmt.Sprintf(" after %q", event.PrevKv.Value)
	}
	return text
}

func watchPrefix(ctx context.Context, c *clientv3.Client, prefix string) error {
	watch := c.Watch(ctx, prefix+"k/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		return fmt.Errorf("the first response is %v", created)
	}
	writes := []func() error{
		func() error { _, err := c.Put(ctx, prefix+"k/a", "1"); return err },
		func() error { _, err := c.Put(ctx, prefix+"k0", "outside"); return err },
		func() error { _, err := c.Put(ctx, prefix+"k/a", "2"); return err },
		func() error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut(prefix+"k/b", "1"), clientv3.OpDelete(prefix+"k/a"), clientv3.OpPut(prefix+"k/c", "1")).Commit()
			return err
		},
		func() error { _, err := c.Delete(ctx, prefix+"k", clientv3.WithPrefix()); return err },
	}
	for _, write := range writes {
		if err := write(); err != nil {
			return err
		}
	}
	events, err := take(ctx, watch, 7)
	if err != nil {
		return err
	}
	expected := []string{`PUT k/a="1"`, `PUT k/a="2" after "1"`, `PUT k/b="1"`, `DELETE k/a="" after "2"`, `PUT k/c="1"`, `DELETE k/b="" after "1"`, `DELETE k/c="" after "1"`}
	for i, event := range events {
		event.Kv.Key = event.Kv.Key[len(prefix):]
		if describe(event) != expected[i] {
			return fmt.Errorf("event %d is %s, not %s", i, describe(event), expected[i])
		}
	}
	revision := func(i int) int64 { return events[i].Kv.ModRevision }
	return expect(revision(2) == revision(4) && revision(5) == revision(6) && revision(1) == revision(0)+2, "the events' revisions are wrong")
}

func watchPast(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count = 1500
	var first int64
	for i := range count {
		put, err := c.Put(ctx, fmt.Sprint(prefix, i%10), fmt.Sprint(i))
		if err != nil {
			return err
		}
		if i == 0 {
			first = put.Header.Revision
		}
	}
	for _, skip := range []int{0, 1, 1000, count - 1} {
		events, err := take(ctx, c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first+int64(skip))), count-skip)
		if err != nil {
			return fmt.Errorf("from event %d on: %w", skip, err)
		}
		for i, event := range events {
			if string(event.Kv.Value) != fmt.Sprint(skip+i) || event.Kv.ModRevision != first+int64(skip+i) {
				return fmt.Errorf("from event %d on: event %d is %s at revision %d", skip, i, describe(event), event.Kv.ModRevision)
			}
		}
	}
	return nil
}

func watchFilters(ctx context.Context, c *clientv3.Client, prefix string) error {
	puts := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	deletes := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	one := c.Watch(ctx, prefix+"b", clientv3.WithCreatedNotify())
	for _, watch := range []clientv3.WatchChan{puts, deletes, one} {
		<-watch
	}
	for _, key := range []string{"a", "b", "c"} {
		if _, err := c.Put(ctx, prefix+key, "1"); err != nil {
			return err
		}
	}
	if _, err := c.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
		return err
	}
	for name, expected := range map[string]struct {
		watch clientv3.WatchChan
		count int
	}{"puts": {puts, 3}, "deletes": {deletes, 3}, "one key": {one, 2}} {
		if _, err := take(ctx, expected.watch, expected.count); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func watchCompacted(ctx context.Context, c *clientv3.Client, prefix string) error {
	var last int64
	for i := range 10 {
		put, err := c.Put(ctx, prefix+"a", fmt.Sprint(i))
		if err != nil {
			return err
		}
		last = put.Header.Revision
	}
	if _, err := c.Compact(ctx, last-2, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	response, ok := <-c.Watch(ctx, prefix+"a", clientv3.WithRev(last-5))
	if err := firstOf(
		expect(ok && response.Canceled && response.CompactRevision == last-2, "a watch from a compacted revision says %v", response),
		expect(errors.Is(response.Err(), rpctypes.ErrCompacted), "its error is %v", response.Err()),
	); err != nil {
		return err
	}
	if _, err := take(ctx, c.Watch(ctx, prefix+"a", clientv3.WithRev(last-2)), 3); err != nil {
		return fmt.Errorf("from the compacted revision itself: %w", err)
	}
	_, err := c.Get(ctx, prefix+"a", clientv3.WithRev(last-3))
	return expect(errors.Is(err, rpctypes.ErrCompacted), "get at a compacted revision: %v", err)
}

func manyWatches(ctx context.Context, c *clientv3.Client, prefix string) error {
	const watchers, writes = 100, 50
	var watches []clientv3.WatchChan
	for range watchers {
		watch := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-watch
		watches = append(watches, watch)
	}
	for i := range writes {
		if _, err := c.Put(ctx, fmt.Sprint(prefix, i%3), fmt.Sprint(i)); err != nil {
			return err
		}
	}
	for number, watch := range watches {
		events, err := take(ctx, watch, writes)
		if err != nil {
			return fmt.Errorf("watch %d: %w", number, err)
		}
		for i, event := range events {
			if string(event.Kv.Value) != fmt.Sprint(i) {
				return fmt.Errorf("watch %d: event %d is %s", number, i, describe(event))
			}
		}
	}
	return nil
}
