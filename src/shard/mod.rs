//! One shard core: its groups, its WAL, the election's part of core 0, as one event loop `step(now, event, &mut effects)`.

pub mod messages;
