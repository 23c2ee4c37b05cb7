package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func concurrencyChecks() []check {
	return []check{
		{"a mutex lets 1,000 goroutines count to exactly 1,000", 3 * time.Minute, mutexCounter},
		{"TryLock and a session's end", ordinaryLimit, tryLock},
		{"an election passes on from leader to leader", ordinaryLimit, election},
		{"transfers in software transactions keep the sum", time.Minute, transfers},
	}
}

// Runs f in many goroutines. The first error of any.
func inParallel(count int, f func(i int) error) error {
	var all sync.WaitGroup
	errs := make(chan error, count)
	for i := range count {
		all.Go(func() {
			if err := f(i); err != nil {
				errs <- fmt.Errorf("goroutine %d: %w", i, err)
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

// A mutex key is named by the session's lease, so every goroutine has its own session; they share a few connections.
func mutexCounter(ctx context.Context, c *clientv3.Client, prefix string) error {
	const goroutines, connections = 1000, 10
	var clients []*clientv3.Client
	for range connections {
		client, err := connect(c.Endpoints()[0])
		if err != nil {
			return err
		}
		defer client.Close()
		clients = append(clients, client)
	}
	counter := prefix + "counter"
	if _, err := c.Put(ctx, counter, "0"); err != nil {
		return err
	}
	err := inParallel(goroutines, func(i int) error {
		session, err := concurrency.NewSession(clients[i%connections], concurrency.WithTTL(120), concurrency.WithContext(ctx))
		if err != nil {
			return err
		}
		defer session.Close()
		mutex := concurrency.NewMutex(session, prefix+"lock")
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		if err := increment(ctx, clients[i%connections], counter); err != nil {
			return err
		}
		return mutex.Unlock(ctx)
	})
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, counter)
	if err != nil {
		return err
	}
	locks, err := c.Get(ctx, prefix+"lock", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	return firstOf(
		expect(string(got.Kvs[0].Value) == strconv.Itoa(goroutines), "the counter is %s", got.Kvs[0].Value),
		expect(got.Kvs[0].Version == goroutines+1, "the counter was written %d times", got.Kvs[0].Version),
		expect(locks.Count == 0, "%d lock keys are left", locks.Count),
	)
}

// Reads, then writes: only a mutex keeps two of these apart.
func increment(ctx context.Context, c *clientv3.Client, counter string) error {
	got, err := c.Get(ctx, counter)
	if err != nil {
		return err
	}
	value, err := strconv.Atoi(string(got.Kvs[0].Value))
	if err != nil {
		return err
	}
	_, err = c.Put(ctx, counter, strconv.Itoa(value+1))
	return err
}

func tryLock(ctx context.Context, c *clientv3.Client, prefix string) error {
	first, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	second, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer second.Close()
	held, wanted := concurrency.NewMutex(first, prefix+"lock"), concurrency.NewMutex(second, prefix+"lock")
	if err := held.TryLock(ctx); err != nil {
		return err
	}
	if err := wanted.TryLock(ctx); err != concurrency.ErrLocked {
		return fmt.Errorf("trying a held lock: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- wanted.Lock(ctx) }()
	if err := first.Close(); err != nil { // revokes the lease, and the lock with it
		return err
	}
	if err := <-waited; err != nil {
		return fmt.Errorf("the lock is not passed on: %w", err)
	}
	return wanted.Unlock(ctx)
}

func election(ctx context.Context, c *clientv3.Client, prefix string) error {
	const candidates = 8
	observing, stop := context.WithCancel(ctx)
	defer stop()
	watcher, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer watcher.Close()
	observed := concurrency.NewElection(watcher, prefix+"e").Observe(observing)

	var mu sync.Mutex
	leading, terms := 0, 0
	seen := make(chan string, candidates)
	go func() {
		for response := range observed {
			seen <- string(response.Kvs[0].Value)
		}
	}()
	err = inParallel(candidates, func(i int) error {
		session, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		defer session.Close()
		election := concurrency.NewElection(session, prefix+"e")
		name := fmt.Sprint("candidate ", i)
		if err := election.Campaign(ctx, name); err != nil {
			return err
		}
		mu.Lock()
		leading++
		terms++
		together := leading
		mu.Unlock()
		leader, err := election.Leader(ctx)
		if err != nil {
			return err
		}
		if together != 1 || string(leader.Kvs[0].Value) != name {
			return fmt.Errorf("%d lead together; the leader is %s", together, leader.Kvs[0].Value)
		}
		select { // Observe may pass over a leader that is gone already, so each waits to be seen
		case value := <-seen:
			if value != name {
				return fmt.Errorf("observed %s while %s leads", value, name)
			}
		case <-ctx.Done():
			return fmt.Errorf("%s was not observed", name)
		}
		mu.Lock()
		leading--
		mu.Unlock()
		return election.Resign(ctx)
	})
	if err != nil {
		return err
	}
	_, err = concurrency.NewElection(watcher, prefix+"e").Leader(ctx)
	return firstOf(expect(terms == candidates, "%d terms", terms), expect(err == concurrency.ErrElectionNoLeader, "at the end: %v", err))
}

func transfers(ctx context.Context, c *clientv3.Client, prefix string) error {
	const accounts, goroutines, rounds, deposit = 5, 10, 20, 100
	account := func(i int) string { return fmt.Sprint(prefix, i%accounts) }
	for i := range accounts {
		if _, err := c.Put(ctx, account(i), strconv.Itoa(deposit)); err != nil {
			return err
		}
	}
	err := inParallel(goroutines, func(i int) error {
		for round := range rounds {
			from, to := account(i+round), account(i+round+1+i%(accounts-1))
			_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
				a, _ := strconv.Atoi(stm.Get(from))
				b, _ := strconv.Atoi(stm.Get(to))
				stm.Put(from, strconv.Itoa(a-i))
				stm.Put(to, strconv.Itoa(b+i))
				return nil
			}, concurrency.WithAbortContext(ctx), concurrency.WithIsolation(concurrency.SerializableSnapshot))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	all, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum, writes := 0, int64(0)
	for _, kv := range all.Kvs {
		value, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		sum += value
		writes += kv.Version
	}
	return firstOf(
		expect(sum == accounts*deposit, "the sum is %d", sum),
		expect(writes == accounts+2*goroutines*rounds, "%d writes", writes),
	)
}
