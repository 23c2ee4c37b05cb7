//! glommio behind the io traits. The only module that names it.
//!
//! One executor is one thread: [`start`] makes one with a future of its own, [`run_here`] turns the calling thread into one.
//! What was measured of glommio 0.9, and is built on here:
//!
//! * Its probe for polled I/O, made once per thread and device, takes an empty file for a success, and every later read of that device
//!   fails. So a file that holds a block is opened first on each device (`disk`).
//! * A wake from another thread into a queue without a latency goal takes 50 ms on a busy core, so there are two queues, and
//!   [`crate::io::Urgency::Prompt`] is the one with a goal (`executor`).
//! * It can go to sleep with ready tasks when its preemption timer fires early, so that timer is long and a heartbeat bounds the rest
//!   (`executor`).
//! * An asynchronous O_DSYNC write needs a kworker on most devices, which busy CPUs keep waiting; one on a thread does not (`disk`).
//! * A [`glommio::io::DmaFile`] writes from memory that it gave out itself, so writes copy once (`disk`).
//! * Its poll of a socket interrupts the thread whenever something arrives, so sockets wait in an epoll instance, and io_uring polls that
//!   (`readiness`). It polls for its own streams alone, so it is handed one that is none.

mod disk;
mod executor;
mod network;
mod pace;
mod readiness;

pub use disk::DiskFile;
pub use executor::{CoreHandle, CoreOptions, Executor, run_here, start};
pub use network::{AcceptedSocket, BoundListener, Socket, listen_on, resolve};
