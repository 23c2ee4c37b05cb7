//! What goes into an election and what comes out of it.

use crate::base::{CoreId, GroupId, Index, MemberId, Revision, Term};

use super::Awaited;
use crate::raft::{Configuration, GroupReport, Position};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed: at least once per heartbeat interval. A leader says what is waited for on its cores.
    Tick {
        /// Everything that is waited for now (rule 10); empty for who does not lead.
        awaited: Vec<Awaited>,
    },
    /// What [`Effect::PersistVote`] asked for is on disk.
    VotePersisted {
        /// The term.
        term: Term,
        /// The vote.
        vote: Option<MemberId>,
    },
    /// A core froze in this term, and everything that it had accepted is on disk (rule 6).
    CoreFrozen {
        /// The term.
        term: Term,
        /// The core.
        core: CoreId,
        /// A report for each of its groups.
        reports: Vec<GroupReport>,
        /// The highest revision that the core knows to be stable: applied by its groups, in its pages, snapshots and WAL.
        known_stable: Revision,
    },
    /// The reign of this term has ended on all cores (rule 7).
    ReignEnded {
        /// The term of the reign.
        term: Term,
        /// Its last stable revision.
        stable: Revision,
    },
    /// Another member's election says something.
    Received {
        /// The member.
        from: MemberId,
        /// What it says.
        message: ElectionMessage,
    },
    /// A core met a message of a higher term (rule 11).
    LaterTerm {
        /// The term.
        term: Term,
        /// Who leads it, if the message was a leader's.
        leader: Option<MemberId>,
    },
    /// A group's log is the one that [`Effect::Pull`] named.
    Pulled {
        /// The term of the takeover.
        term: Term,
        /// The group.
        group: GroupId,
    },
    /// The barriers of all groups are on disk at a quorum (rule 9).
    BarriersDurable {
        /// The term of the takeover.
        term: Term,
    },
    /// A revision is known to be stable: stated by a leader.
    KnownStable(Revision),
    /// This configuration is now the newest in the logs here.
    Configured(Configuration),
    /// There is now a working link to this member for each group, or no longer.
    LinkChanged {
        /// The member.
        peer: MemberId,
        /// Whether all its links work.
        working: bool,
    },
    /// Where the logs here start and end, told now and then; for pre-votes.
    Logs(Vec<LogExtent>),
    /// A read wants to know that this member still leads (rule 14); answered by [`Effect::ReadsConfirmed`] with this token.
    ConfirmRead(u64),
    /// Leadership is to go to this member; what it needs is in its logs.
    Transfer(MemberId),
}

/// Where a group's log starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogExtent {
    /// The group.
    pub group: GroupId,
    /// The last entry that is compacted.
    pub start: Index,
    /// The last entry.
    pub last: Index,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Put (term, vote) on disk; answered by [`Event::VotePersisted`].
    PersistVote {
        /// The term.
        term: Term,
        /// Who gets the vote, if anyone does yet.
        vote: Option<MemberId>,
    },
    /// Every core moves to this term in its own time (rule 6); answered by [`Event::CoreFrozen`] from each.
    FreezeCores {
        /// The term.
        term: Term,
    },
    /// The takeover or reign of this term is given up (rule 10): nobody takes a revision in it any more, and what waits is
    /// answered.
    CloseReign {
        /// The term.
        term: Term,
    },
    /// All cores are frozen: load this reign's stable revision once, have the cores apply up to it, drop the rest (rule 7);
    /// answered by [`Event::ReignEnded`].
    EndReign {
        /// The term of the reign.
        term: Term,
    },
    /// Send this to another member's election.
    Send {
        /// The member.
        to: MemberId,
        /// What to say.
        message: ElectionMessage,
    },
    /// Make this group's log the one of another voter (rule 8); answered by [`Event::Pulled`].
    Pull {
        /// The term of the takeover.
        term: Term,
        /// The group.
        group: GroupId,
        /// Whose log it is.
        from: MemberId,
        /// Where that log ends.
        last: Position,
    },
    /// All logs here are the merged ones: compute W_final, cut, lead the term in every group and append the barriers (rule 9);
    /// answered by [`Event::BarriersDurable`].
    TakeOver {
        /// The term.
        term: Term,
        /// The highest revision known to be stable among the voters.
        known_stable: Revision,
        /// What the barriers carry.
        configuration: Configuration,
        /// The merged log of every group, by group.
        logs: Vec<MergedLog>,
    },
    /// Make the reign of this term (rule 9).
    OpenReign {
        /// The term.
        term: Term,
    },
    /// Every replica follows this leader (rule 11).
    BecomeFollower {
        /// The term.
        term: Term,
        /// Its leader.
        leader: MemberId,
    },
    /// Whom this member takes for the leader, for headers, status and metrics.
    LeaderIs {
        /// The term.
        term: Term,
        /// Its leader, if one is known.
        leader: Option<MemberId>,
    },
    /// This member led when these reads asked (rule 14).
    ReadsConfirmed(Vec<u64>),
    /// These reads cannot be confirmed: this member does not lead.
    ReadsRefused(Vec<u64>),
}

/// The log that is taken over for a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergedLog {
    /// The group.
    pub group: GroupId,
    /// Whose log it is.
    pub from: MemberId,
    /// Where it ends.
    pub last: Position,
}

/// What one election says to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectionMessage {
    /// The sender's term; of a pre-vote and its grant, the term that would begin.
    pub term: Term,
    /// What it says.
    pub body: ElectionBody,
}

/// What an election says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ElectionBody {
    /// Would I get your vote?
    PreVote {
        /// The last entry of each of the candidate's logs.
        lasts: Vec<(GroupId, Index)>,
    },
    /// You would.
    PreVoteGranted,
    /// You would not; my term is the message's.
    PreVoteRefused,
    /// Vote for me.
    RequestVote {
        /// The leader asked for it, so that it is heard does not count against it.
        transfer: bool,
    },
    /// You have my vote.
    Vote(Vote),
    /// You have not; my term is the message's.
    VoteRefused,
    /// I lead this term.
    Heartbeat {
        /// Of which round; each is used once (rule 14).
        round: u64,
    },
    /// You lead the term that I am in.
    HeartbeatAck {
        /// The round of the heartbeat.
        round: u64,
    },
    /// Stand for election now; I make way.
    StandNow,
}

/// A vote, with what a takeover needs to know of the voter (rule 6). It compares no logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The highest revision that the voter knows to be stable.
    pub known_stable: Revision,
    /// A report for each group that the voter has.
    pub reports: Vec<GroupReport>,
}
