//! Defragmentation of a group's page file: what is at its end is moved to free pages before that, and the file is cut.
//!
//! ```text
//!  asked ──▶ two checkpoints ──▶ pass, a slice a round ──▶ two checkpoints ──▶ much shorter: another pass
//!            (what is let go is free)                      (the file is cut)    else: done
//! ```
//!
//! Slices run between checkpoints, and only while few pages are dirty; puts go on meanwhile.

use crate::base::limits::{DEFRAGMENT_PAGES_PER_SLICE, DEFRAGMENT_PASSES_MAX};

use crate::group::CheckpointPolicy;

use super::core::{Core, Shard, Waiting};
use super::effects::Effect;

/// What a checkpoint lets go of is free when the next one is on disk.
const CHECKPOINTS_TO_SETTLE: u32 = 2;
/// A file longer than what is used by less than this part is left as it is.
const WORTH_PART: u64 = 16;

/// A defragmentation under way.
pub(super) struct Defragmenting {
    stage: Stage,
    passes: u32,
    /// The file's length when it was asked for, and before the last pass.
    first_bytes: u64,
    before_bytes: u64,
}

enum Stage {
    /// So many checkpoints are to come.
    Settle(u32),
    /// Pages are being moved; perhaps one has to be read first.
    Pass { waits: bool },
}

impl Defragmenting {
    fn new(file_bytes: u64) -> Defragmenting {
        let stage = Stage::Settle(CHECKPOINTS_TO_SETTLE);
        Defragmenting { stage, passes: 0, first_bytes: file_bytes, before_bytes: u64::MAX }
    }

    /// Whether checkpoints are to come before it goes on.
    fn settles(&self) -> bool {
        matches!(self.stage, Stage::Settle(_))
    }

    /// Whether it is moving pages, and waits for none.
    fn moves(&self) -> bool {
        matches!(self.stage, Stage::Pass { waits: false })
    }

    /// The page that it waits for is there.
    pub(super) fn go_on(&mut self) {
        if let Stage::Pass { waits } = &mut self.stage {
            *waits = false;
        }
    }

    /// A checkpoint is on disk. False: the defragmentation is over.
    fn checkpointed(&mut self, file_bytes: u64, used_bytes: u64) -> bool {
        match &mut self.stage {
            Stage::Pass { .. } => return true,
            Stage::Settle(left) if *left > 1 => {
                *left -= 1;
                return true;
            }
            Stage::Settle(_) => {}
        }
        let shrinks = self.before_bytes - file_bytes.min(self.before_bytes) > file_bytes / WORTH_PART;
        let is_worth_it = file_bytes.saturating_sub(used_bytes) > used_bytes / WORTH_PART;
        if self.passes == DEFRAGMENT_PASSES_MAX || !shrinks || !is_worth_it {
            return false;
        }
        self.passes += 1;
        self.before_bytes = file_bytes;
        self.stage = Stage::Pass { waits: false };
        true
    }
}

impl Core {
    /// Begins it for every group of the core; one that is under way goes on.
    pub(super) fn start_defragment(&mut self) {
        for shard in &mut self.shards {
            let file_bytes = shard.replica.machine.store().file_bytes();
            shard.defragmenting.get_or_insert_with(|| Defragmenting::new(file_bytes));
        }
    }

    /// Moves a few pages.
    pub(super) fn defragment(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let shard = &mut self.shards[place];
        if !shard.defragments(&self.layout.checkpoints) {
            return;
        }
        let stage = match shard.replica.machine.store().defragment_slice(DEFRAGMENT_PAGES_PER_SLICE) {
            Ok(true) => return,
            Ok(false) => Stage::Settle(CHECKPOINTS_TO_SETTLE),
            Err(fault) => {
                shard.wait_for(fault, Waiting::Defragment, effects);
                Stage::Pass { waits: true }
            }
        };
        shard.defragmenting.as_mut().expect("it moves pages").stage = stage;
    }
}

impl Shard {
    /// Whether the next slice of moving pages may run.
    pub(super) fn defragments(&self, policy: &CheckpointPolicy) -> bool {
        let moves = self.defragmenting.as_ref().is_some_and(Defragmenting::moves);
        moves && self.replica.checkpoint_is_idle() && self.replica.dirty_bytes() < policy.dirty_bytes
    }

    /// Whether a defragmentation goes on behind a checkpoint only.
    pub(super) fn defragmentation_wants_checkpoint(&self, policy: &CheckpointPolicy) -> bool {
        self.defragmenting
            .as_ref()
            .is_some_and(|d| d.settles() || d.moves() && self.replica.dirty_bytes() >= policy.dirty_bytes)
    }

    /// A checkpoint is on disk: the defragmentation goes on, or is over.
    pub(super) fn checkpoint_finished(&mut self) {
        let store = self.replica.machine.store();
        let (file_bytes, used_bytes) = (store.file_bytes(), store.used_bytes());
        let Some(defragmenting) = &mut self.defragmenting else { return };
        if !defragmenting.checkpointed(file_bytes, used_bytes) {
            let before = defragmenting.first_bytes;
            tracing::info!(group = self.replica.id().get(), before, after = file_bytes, "finished defragmenting a page file");
            self.defragmenting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stages that it goes through when the files are this long behind each checkpoint: `s`ettling, a `p`ass, or over.
    fn stages(file_bytes: &[u64], used_bytes: u64) -> String {
        let mut defragmenting = Defragmenting::new(file_bytes[0]);
        let mut seen = String::new();
        for &bytes in file_bytes {
            if !defragmenting.checkpointed(bytes, used_bytes) {
                return seen + ".";
            }
            if defragmenting.moves() {
                seen.push('p');
                defragmenting.stage = Stage::Settle(CHECKPOINTS_TO_SETTLE);
            } else {
                seen.push('s');
            }
        }
        seen
    }

    #[test]
    fn it_ends_when_nothing_is_gained() {
        assert_eq!(stages(&[100, 100], 99), "s.", "a dense file is left as it is");
        assert_eq!(stages(&[100, 100, 100, 20, 20, 20], 20), "sps.");
        assert_eq!(stages(&[100, 100, 100, 60, 60, 59], 20), "spsps.", "a pass that gains little is the last");
        assert_eq!(stages(&[900, 900, 900, 700, 700, 500, 500, 300, 300, 100], 20), "spspspsps.", "and so is the fourth");
    }
}
