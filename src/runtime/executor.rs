//! Executors: one per thread, with a queue of tasks for each urgency.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle};

use super::pace::Pace;
use super::readiness::Readiness;
use crate::base::Instant;
use crate::base::limits::{EXECUTOR_BLOCKING_THREADS, EXECUTOR_IO_BYTES, EXECUTOR_RING_ENTRIES};
use crate::io::{Clock, Tasks, Urgency};

/// How long tasks run before I/O is looked at again, unless something wakes them from outside (which interrupts at once).
///
/// Must be far above what the system may take the CPU away for: when this timer fires after glommio 0.9 has armed it and before it has run
/// the first task, the executor sleeps although tasks are ready, until the next event. With 1 ms, loaded machines hung within seconds.
const PROMPT_LATENCY: Duration = Duration::from_millis(100);
/// An event of our own at this interval, so that what is left of that race costs no more than this.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// What counts as letting others run.
const YIELD: Duration = Duration::from_micros(1);
const PROMPT_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 100;

/// What one executor is made with.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The thread's name.
    pub name: String,
    /// The CPU it is pinned to, if any.
    pub cpu: Option<usize>,
    /// How long it looks for work before it sleeps.
    pub spin: Duration,
    /// How long what arrives on many sockets waits for more at most; see [`Pace`].
    pub gather: Duration,
}

impl CoreOptions {
    /// An unpinned executor that sleeps at once when there is nothing to do.
    pub fn named(name: impl Into<String>) -> CoreOptions {
        CoreOptions { name: name.into(), cpu: None, spin: Duration::ZERO, gather: Duration::ZERO }
    }

    fn builder(&self) -> LocalExecutorBuilder {
        LocalExecutorBuilder::new(self.cpu.map_or(Placement::Unbound, Placement::Fixed))
            .name(&self.name)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(EXECUTOR_BLOCKING_THREADS))
            .io_memory(EXECUTOR_IO_BYTES)
            .ring_depth(EXECUTOR_RING_ENTRIES)
            .spin_before_park(self.spin)
    }
}

/// The executor that runs on this thread: clock, tasks, disk and network of the pumps.
#[derive(Clone, Debug)]
pub struct Executor {
    prompt: TaskQueueHandle,
    background: TaskQueueHandle,
    readiness: Readiness,
}

impl Executor {
    /// The sockets that wait here.
    pub(super) fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}

/// A started executor.
pub struct CoreHandle<T: Send + 'static>(ExecutorJoinHandle<T>);

impl<T: Send + 'static> CoreHandle<T> {
    /// Waits for its main future; an error when the executor could not be made.
    ///
    /// # Panics
    /// When the executor's thread did.
    pub fn join(self) -> io::Result<T> {
        self.0.join().map_err(io::Error::from)
    }
}

/// Starts an executor on a thread of its own and runs `main` on it.
pub fn start<T, F>(options: &CoreOptions, main: impl FnOnce(Executor) -> F + Send + 'static) -> io::Result<CoreHandle<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let gather = options.gather;
    let handle = options.builder().spawn(move || prompt_main(gather, main)).map_err(io::Error::from)?;
    Ok(CoreHandle(handle))
}

/// Makes this thread an executor until `main` ends.
pub fn run_here<T: 'static, F>(options: &CoreOptions, main: impl FnOnce(Executor) -> F) -> io::Result<T>
where
    F: Future<Output = T> + 'static,
{
    let executor = options.builder().make().map_err(io::Error::from)?;
    Ok(executor.run(prompt_main(options.gather, main)))
}

/// Makes the queues and runs `main` in the prompt one.
async fn prompt_main<T: 'static, F: Future<Output = T> + 'static>(gather: Duration, main: impl FnOnce(Executor) -> F) -> T {
    let here = glommio::executor();
    let executor = Executor {
        prompt: here.create_task_queue(Shares::Static(PROMPT_SHARES), Latency::Matters(PROMPT_LATENCY), "prompt"),
        background: here.create_task_queue(Shares::Static(BACKGROUND_SHARES), Latency::NotImportant, "background"),
        readiness: Readiness::new(Pace::new(gather)).expect("an executor starts with files to spare"),
    };
    let prompt = executor.prompt;
    executor.spawn(Urgency::Prompt, async {
        loop {
            glommio::timer::sleep(HEARTBEAT).await;
        }
    });
    let clock = executor.clone();
    executor.spawn(Urgency::Prompt, executor.readiness.clone().watch(move || clock.now()));
    glommio::spawn_local_into(main(executor), prompt).expect("the queue was just made").await
}

impl Clock for Executor {
    fn now(&self) -> Instant {
        static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
        let origin = *ORIGIN.get_or_init(std::time::Instant::now);
        // From 1: the origin itself stays free for "never".
        Instant::from_nanos(1 + u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX - 1))
    }
}

impl Tasks for Executor {
    fn spawn(&self, urgency: Urgency, task: impl Future<Output = ()> + 'static) {
        let queue = match urgency {
            Urgency::Prompt => self.prompt,
            Urgency::Background => self.background,
        };
        glommio::spawn_local_into(task, queue).expect("the queues live as long as the executor").detach();
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(time)
    }

    async fn yield_now(&self) {
        // A timer, not a yield: while any queue has a ready task, glommio looks at I/O only when its preemption timer fires.
        glommio::timer::sleep(YIELD).await;
    }

    fn gather_arrivals(&self, wait: Duration) {
        self.readiness.gather(wait);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Far more turns of a busy task than a wake waits for, and far fewer than it has in the 50 ms that a wake takes without a latency goal.
    const TURNS_MAX: u64 = 200;

    #[test]
    fn every_executor_reads_the_same_clock() {
        let other = start(&CoreOptions::named("clock"), |executor| async move { executor.now() }).expect("an executor");
        let before = other.join().expect("it ran");
        let after = run_here(&CoreOptions::named("here"), |executor| async move { executor.now() }).expect("an executor");
        assert!(before > Instant::ZERO && after >= before);
    }

    #[test]
    fn a_wake_from_another_thread_reaches_a_busy_core_soon() {
        let (sender, receiver) = flume::unbounded::<u64>();
        let turns = Arc::new(AtomicU64::new(0));
        let counted = turns.clone();
        let busy = start(&CoreOptions::named("busy"), move |executor| async move {
            let (busy, turns) = (executor.clone(), counted.clone());
            let ended = Rc::new(Cell::new(false));
            let over = ended.clone();
            executor.spawn(Urgency::Background, async move {
                while !over.get() {
                    turns.fetch_add(1, Ordering::Relaxed);
                    busy.yield_now().await;
                }
            });
            let mut waits = Vec::new();
            while let Ok(sent) = receiver.recv_async().await {
                waits.push(counted.load(Ordering::Relaxed) - sent);
            }
            ended.set(true);
            waits.sort();
            waits[waits.len() / 2]
        })
        .expect("an executor");
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            sender.send(turns.load(Ordering::Relaxed)).expect("the receiver lives");
        }
        drop(sender);
        let median = busy.join().expect("it ran");
        println!("half of the wakes waited for {median} turns or more, of {}", turns.load(Ordering::Relaxed));
        assert!(median < TURNS_MAX, "half of the wakes waited for {median} turns or more");
    }
}
