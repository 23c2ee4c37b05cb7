//! Thin loops between the logic and the world: they carry out effects and report what happened. No decision is made here.
//!
//! ```text
//!              ┌───────────── one executor ─────────────┐
//!  sockets ──▶ │ rpc ─▶ port ─▶ front ─▶ core ─▶ disk   │ ─▶ files
//!              │        ▲        │  ▲      │      │     │
//!              │        └────────┘  └──────┴──────┘     │
//!              └──────────▲───────────────▲─────────────┘
//!                 queues to and from the other executors
//! ```
//!
//! One round: what arrived is handed in, the core is flushed once, effects are carried out, the front advances. The executor's
//! other tasks run between two rounds, so that what arrives together is handled together.

mod calls;
mod disk;
mod executor;
mod internal;
mod metering;
mod queues;
mod zeros;

pub use calls::Calls;
pub use disk::{CoreDisk, Report};
pub use executor::{Ended, Executor, ExecutorParts};
pub use internal::Internal;
pub use metering::Metering;
pub use queues::{Batch, Bell, Envelope, Homes, Queues};
