//! What the hand-over between executors costs: requests to a core on another thread and its answers back, in batches per round, as the
//! pump does it. A message is worth the CPU time and the wake-ups that it takes.
//!
//! `cargo bench --bench handover`

use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use etcring::base::{CoreId, FrontId, GroupId, Term};
use etcring::pump::{Envelope, Homes, Queues};
use etcring::reign::Seat;
use etcring::runtime::{CoreOptions, run_here, start};
use etcring::shard::{Answer, Leave, Ticket, ToCore, ToFront};

const FRONT: Seat = Seat::Front(FrontId(0));
const CORE: Seat = Seat::Core(CoreId(0));

fn request(number: u64) -> Envelope {
    Envelope::ToCore(ToCore::Cancel { ticket: Ticket { front: FrontId(0), number }, group: GroupId(1) })
}

/// The other executor: answers whatever comes, a batch for a batch.
async fn core(queues: Queues) {
    while let Some(batch) = queues.receive().await {
        for envelope in batch {
            match envelope {
                Envelope::ToCore(ToCore::Cancel { ticket, .. }) => {
                    let answer = ToFront::Answer { ticket, term: Term(1), leave: Leave::Now, answer: Answer::Done };
                    queues.push(FRONT, Envelope::ToFront(answer));
                }
                _ => return,
            }
        }
        queues.flush();
    }
}

/// Asks `count` requests, `window` of them under way at a time, and waits for their answers.
async fn ask(queues: Rc<Queues>, count: u64, window: u64) -> Duration {
    let started = Instant::now();
    let (mut asked, mut answered) = (0, 0);
    while answered < count {
        while asked < count && asked < answered + window {
            queues.push(CORE, request(asked));
            asked += 1;
        }
        queues.flush();
        answered += queues.receive().await.expect("the core is there").len() as u64;
    }
    started.elapsed()
}

fn handover(c: &mut Criterion) {
    let homes = Homes { cores: vec![1], fronts: vec![0] };
    let mut ends = Queues::connect(2, &homes);
    let (there, here) = (ends.pop().expect("two ends"), Rc::new(ends.pop().expect("two ends")));
    let thread = start(&CoreOptions::named("core"), |_| core(there)).expect("an executor");
    let mut group = c.benchmark_group("hand-over");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    for window in [1, 16, 256] {
        group.bench_function(format!("there and back, {window} under way"), |b| {
            b.iter_custom(|count| {
                let here = here.clone();
                run_here(&CoreOptions::named("front"), |_| ask(here, count, window)).expect("an executor")
            });
        });
    }
    group.finish();
    here.push(CORE, Envelope::Stop);
    here.flush();
    thread.join().expect("it ran");
}

criterion_group!(benches, handover);
criterion_main!(benches);
