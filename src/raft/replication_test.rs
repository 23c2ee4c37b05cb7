use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::base::{GroupSet, Mark};
use crate::raft::script_test::{Command, scripts};
use crate::raft::{Append, BadLog, Body};

/// Replicas of one group in memory, a disk each, and the messages under way between them.
struct Group {
    replicas: Vec<Replication>,
    /// Writes that were given out and are not on disk.
    disks: Vec<VecDeque<Persist>>,
    network: VecDeque<(MemberId, MemberId, Message)>,
}

fn configuration_of(payload: &[u8]) -> Option<Configuration> {
    payload.strip_prefix(b"configuration ").map(|bytes| Configuration::decode(bytes).expect("the test wrote it"))
}

fn start(me: u64, members: u64, log: Log, applied: Index) -> Start {
    let voters = (1..=members).map(MemberId).collect();
    let configuration = Configuration::new(0, 1, voters, vec![]).expect("sound");
    let term = log.last().term;
    Start { me: MemberId(me), group: GroupId(1), term, configuration, log, applied, configuration_of }
}

fn replica(me: u64, members: u64, log: Log) -> Replication {
    let applied = log.start().index;
    Replication::new(start(me, members, log, applied)).expect("the log is sound")
}

fn own(revision: u64) -> Mark {
    Mark::Revision { revision: Revision(revision), participants: GroupSet::of(GroupId(1)) }
}

/// "term:mark term:mark ...", where a mark is a revision, or ">" and what it comes after.
fn parse_log(text: &str) -> Log {
    let entry = |(place, text): (usize, &str)| {
        let (term, mark) = text.split_once(':').expect("term:mark");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let mark = match mark.strip_prefix('>') {
            Some(after) => Mark::After(Revision(number(after))),
            None => own(number(mark)),
        };
        Entry { term: Term(number(term)), index: Index(place as u64 + 1), mark, payload: Bytes::new() }
    };
    let entries = text.split(',').filter(|e| !e.is_empty()).enumerate().map(entry).collect();
    Log::recovered(Position::default(), Revision::ZERO, entries).expect("the script's log is sound")
}

fn show_entry(entry: &Entry) -> String {
    match entry.mark {
        Mark::Revision { revision, .. } => format!("{}:{revision}", entry.term),
        Mark::After(after) => format!("{}:>{after}", entry.term),
    }
}

fn show_span(span: Option<Span>) -> String {
    span.map_or("none".into(), |span| format!("{}-{}", span.first, span.last))
}

fn show_message(from: MemberId, to: MemberId, message: &Message) -> String {
    let what = match &message.body {
        Body::Append(Append { previous, entries, commit }) => {
            let entries: Vec<String> = entries.iter().map(show_entry).collect();
            format!("append after {}@{} [{}] commit {commit}", previous.index, previous.term, entries.join(" "))
        }
        Body::AppendAck { index, .. } => format!("ack {index}"),
        Body::Reject { previous, hint } => format!("reject {previous}, hint {}@{}", hint.index, hint.term),
    };
    format!("{from}->{to} term {} {what}", message.term)
}

impl Group {
    fn of(command: &Command<'_>) -> Group {
        let members = command.number("members").expect("members=n");
        let log = |m: u64| parse_log(command.text(&format!("log{m}")).unwrap_or(""));
        let replicas = (1..=members).map(|m| replica(m, members, log(m))).collect();
        let disks = (0..members).map(|_| VecDeque::new()).collect();
        Group { replicas, disks, network: VecDeque::new() }
    }

    fn replica(&mut self, command: &Command<'_>) -> &mut Replication {
        &mut self.replicas[command.member() as usize - 1]
    }

    fn ready(&mut self, member: u64) -> Vec<String> {
        let place = member as usize - 1;
        let ready = self.replicas[place].ready();
        let mut out = Vec::new();
        if let Some(persist) = ready.persist {
            let cut = persist.cut_after.map_or(String::new(), |after| format!("cut after {after}, "));
            out.push(format!("{member} writes {cut}{}", show_span(persist.entries)));
            self.disks[place].push_back(persist);
        }
        if let Some(span) = ready.committed {
            let entries: Vec<String> = self.replicas[place].entries(span).map(show_entry).collect();
            out.push(format!("{member} applies {}", entries.join(" ")));
        }
        for (to, message) in ready.messages {
            out.push(show_message(MemberId(member), to, &message));
            self.network.push_back((MemberId(member), to, message));
        }
        out.extend(ready.snapshots.iter().map(|to| format!("{member} has a snapshot for {to}")));
        out
    }

    fn persist(&mut self, member: u64) -> Vec<String> {
        let place = member as usize - 1;
        let Some(last) = self.disks[place].drain(..).next_back() else { return vec!["nothing".into()] };
        self.replicas[place].persisted(last.number);
        vec![format!("{member} persisted {}", self.replicas[place].log().persisted())]
    }

    /// Takes the messages out of the network that the command means: all, or those of "a->b".
    fn take(&mut self, command: &Command<'_>) -> Vec<(MemberId, MemberId, Message)> {
        let links: Vec<&str> = command.plain().collect();
        let means = |from: MemberId, to: MemberId| links.is_empty() || links.contains(&format!("{from}->{to}").as_str());
        let (taken, left): (Vec<_>, Vec<_>) = self.network.drain(..).partition(|(from, to, _)| means(*from, *to));
        self.network = left.into();
        taken
    }

    fn deliver(&mut self, messages: Vec<(MemberId, MemberId, Message)>) -> Vec<String> {
        let mut out = Vec::new();
        for (from, to, message) in messages {
            let shown = show_message(from, to, &message);
            match self.replicas[to.0 as usize - 1].step(from, message) {
                Ok(Heard::Taken) => {}
                Ok(heard) => out.push(format!("{shown}: {heard:?}")),
                Err(bad) => out.push(format!("{shown}: {bad}")),
            }
        }
        out
    }

    /// Everything goes on until nothing is left to do.
    fn settle(&mut self) -> Vec<String> {
        for round in 0.. {
            assert!(round < 100, "it goes on for ever");
            let members = 1..=self.replicas.len() as u64;
            let mut quiet = true;
            for member in members {
                quiet &= self.ready(member).is_empty();
                quiet &= self.disks[member as usize - 1].is_empty();
                self.persist(member);
            }
            let messages: Vec<_> = self.network.drain(..).collect();
            quiet &= messages.is_empty();
            self.deliver(messages);
            if quiet {
                break;
            }
        }
        (1..=self.replicas.len() as u64).map(|m| self.show(m)).collect()
    }

    fn show(&self, member: u64) -> String {
        let replica = &self.replicas[member as usize - 1];
        let log = replica.log();
        let entries = Span::between(log.released(), log.last().index);
        let entries: Vec<String> = entries.into_iter().flat_map(|span| log.entries(span)).map(show_entry).collect();
        let (start, persisted) = (log.start(), log.persisted());
        let role = match replica.role() {
            Role::Frozen => "frozen".into(),
            Role::Leading => format!("leading, quorum {}", replica.quorum_index()),
            Role::Following(leader) => format!("following {leader}, matched {}", replica.matched),
        };
        let from = if log.released() == Index::ZERO { String::new() } else { format!("{}@{} ", start.index, start.term) };
        let (term, commit) = (replica.term(), replica.commit_index());
        format!("{member} term {term} {role}, commit {commit}, on disk {persisted}: {from}[{}]", entries.join(" "))
    }

    fn answer(&mut self, command: &Command<'_>) -> Vec<String> {
        match command.name {
            "freeze" => {
                let term = Term(command.number("term").expect("term=t"));
                let members: Vec<u64> = command.plain().map(|m| m.parse().expect("a member")).collect();
                members.iter().for_each(|m| self.replicas[*m as usize - 1].freeze(term));
                vec![]
            }
            "report" => vec![self.replica(command).report().map_or("not yet".into(), |r| {
                format!("last {}@{}, configuration {}", r.last.index, r.last.term, r.configuration.version)
            })],
            "lead" => {
                let replica = self.replica(command);
                let term = replica.term();
                replica.lead(term);
                vec![]
            }
            "follow" => {
                let leader = MemberId(command.number("leader").expect("leader=m"));
                for member in command.plain() {
                    let replica = &mut self.replicas[member.parse::<usize>().expect("a member") - 1];
                    replica.follow(replica.term(), leader);
                }
                vec![]
            }
            "propose" => self.propose(command),
            "ready" => self.ready(command.member()),
            "persist" => self.persist(command.member()),
            "deliver" => {
                let mut messages = self.take(command);
                if command.text("order") == Some("reversed") {
                    messages.reverse();
                }
                if command.text("times") == Some("2") {
                    messages = messages.iter().flat_map(|m| [m.clone(), m.clone()]).collect();
                }
                self.deliver(messages)
            }
            "drop" => self.take(command).iter().map(|(from, to, m)| show_message(*from, *to, m)).collect(),
            "commit" => {
                let stable = Revision(command.number("stable").expect("stable=w"));
                vec![format!("commit {}", self.replica(command).commit(stable))]
            }
            "open" => {
                let lowest = self.replica(command).lowest_without_quorum();
                vec![lowest.map_or("none".into(), |revision| format!("lowest without quorum {revision}"))]
            }
            "cut" => {
                let after = Index(command.number("after").expect("after=i"));
                self.replica(command).cut(after);
                vec![]
            }
            "release" | "compact" => {
                let upto = Index(command.number("upto").expect("upto=i"));
                let replica = self.replica(command);
                if command.name == "release" {
                    replica.release(upto)
                } else {
                    replica.compact(upto)
                }
                vec![self.show(command.member())]
            }
            "heard" | "lost" | "installed" => self.about_peer(command),
            "progress" => self.progress(command),
            "settle" => self.settle(),
            "show" => (1..=self.replicas.len() as u64).map(|m| self.show(m)).collect(),
            other => panic!("there is no command {other}"),
        }
    }

    /// What a leader learns of a peer in other ways than by messages.
    fn about_peer(&mut self, command: &Command<'_>) -> Vec<String> {
        let peer = MemberId(command.number("peer").expect("peer=m"));
        let replica = self.replica(command);
        match command.name {
            "heard" => replica.heard_from(peer),
            "lost" => replica.link_lost(peer),
            _ => replica.snapshot_ended(peer, command.number("upto").map(Index)),
        }
        vec![]
    }

    fn propose(&mut self, command: &Command<'_>) -> Vec<String> {
        let voters = command.numbers("voters");
        let replica = self.replica(command);
        let after = command.number("after").map(|after| Mark::After(Revision(after)));
        let marks = command.numbers("revisions").unwrap_or_default().into_iter().map(own).chain(after);
        let mut out = Vec::new();
        for mark in marks {
            let index = match &voters {
                None => replica.propose(mark, Bytes::new()),
                Some(voters) => {
                    let voters = voters.iter().copied().map(MemberId).collect();
                    let version = replica.configuration().version + 1;
                    let next = Configuration::new(version, 1, voters, vec![]).expect("the script's voters are sound");
                    let payload = [b"configuration ".as_slice(), &next.encode()].concat();
                    replica.propose_configuration(mark, payload.into(), next)
                }
            };
            out.push(format!("entry {index}"));
        }
        out
    }

    fn progress(&mut self, command: &Command<'_>) -> Vec<String> {
        let peers: Vec<u64> = (1..=self.replicas.len() as u64).collect();
        let replica = self.replica(command);
        let known = |peer: u64| Some((peer, replica.progress(MemberId(peer))?));
        let show = |(peer, p): (u64, &Progress)| format!("{peer} matched {} next {} {:?}", p.matched(), p.next(), p.sending());
        peers.into_iter().filter_map(known).map(show).collect()
    }
}

scripts! { "group" => Group;
    one_voter
    three_replicas
    conflicting_tails
    lost_reordered_doubled
    own_term_only
    bounded_by_stable
    cuts
    frozen
    snapshots
    configurations
    other_terms
}

#[test]
fn checkpoint_and_log_must_belong_together() {
    let log = || parse_log("1:2,1:3");
    let error = Replication::new(start(1, 1, log(), Index(3))).err();
    assert_eq!(error, Some(BadStart::AppliedBeyondEnd { applied: Index(3), last: Index(2) }));
    let mut compacted = log();
    compacted.compact(Index(2));
    let error = Replication::new(start(1, 1, compacted, Index(1))).err();
    assert_eq!(error, Some(BadStart::AppliedBelowStart { applied: Index(1), start: Index(2) }));
}

/// An append of entries of `term` after `previous`, an index of an entry of term 1.
fn append(term: u64, previous: u64, marks: &[Mark], commit: u64) -> Message {
    let entry = |(at, mark): (u64, &Mark)| Entry { term: Term(term), index: Index(at), mark: *mark, payload: Bytes::new() };
    let entries = (previous + 1..).zip(marks).map(entry).collect();
    let previous = Position { term: Term(u64::from(previous > 0)), index: Index(previous) };
    Message { term: Term(term), body: Body::Append(Append { previous, entries, commit: Index(commit) }) }
}

#[test]
fn what_no_correct_peer_sends_is_named_and_changes_nothing() {
    let mut replica = replica(2, 3, parse_log("1:2,1:3"));
    replica.freeze(Term(2));
    replica.follow(Term(2), MemberId(1));
    let before = |r: &Replication| (r.log().last(), r.commit_index(), r.matched);
    assert_eq!(replica.step(MemberId(1), append(2, 2, &[], 2)), Ok(Heard::Taken));
    let sound = before(&replica);
    assert_eq!(sound.1, Index(2));
    assert_eq!(replica.step(MemberId(3), append(2, 2, &[own(4)], 0)), Err(BadMessage::NotTheLeader(MemberId(3))));
    let gap = append(2, 2, &[own(4), own(5)], 0);
    let Body::Append(mut odd) = gap.body else { unreachable!("it is an append") };
    odd.entries.remove(0);
    let gap = BadLog::Gap { expected: Index(3), found: Index(4) };
    assert_eq!(replica.step(MemberId(1), Message { term: Term(2), body: Body::Append(odd) }), Err(BadMessage::Log(gap)));
    let falls = Err(BadMessage::Log(BadLog::RevisionFalls(Index(3))));
    assert_eq!(replica.step(MemberId(1), append(2, 2, &[own(3)], 0)), falls);
    let mut late = append(3, 2, &[own(4)], 0);
    late.term = Term(2);
    assert_eq!(replica.step(MemberId(1), late), Err(BadMessage::EntryOfLaterTerm(Index(3))));
    assert_eq!(before(&replica), sound);

    let mut leader = self::replica(1, 3, Log::empty());
    leader.freeze(Term(1));
    leader.lead(Term(1));
    let ack = Message { term: Term(1), body: Body::AppendAck { index: Index(1), room_bytes: 0 } };
    assert_eq!(leader.step(MemberId(2), ack), Err(BadMessage::AckBeyondEnd(Index(1))));
    assert_eq!(leader.step(MemberId(2), append(1, 0, &[], 0)), Err(BadMessage::NotTheLeader(MemberId(2))));
}

#[test]
fn an_earlier_write_never_counts_for_entries_that_replaced_its_own() {
    let mut replica = replica(2, 3, Log::empty());
    for (term, leader) in [(1, 1), (2, 3)] {
        replica.freeze(Term(term));
        replica.follow(Term(term), MemberId(leader));
        let marks = if term == 1 { vec![own(2), own(3)] } else { vec![own(4)] };
        assert_eq!(replica.step(MemberId(leader), append(term, term - 1, &marks, 0)), Ok(Heard::Taken));
        if term == 1 {
            let persist = replica.ready().persist.expect("there are entries");
            assert_eq!((persist.number, persist.entries), (1, Some(Span { first: Index(1), last: Index(2) })));
        }
    }
    let persist = replica.ready().persist.expect("there are entries");
    assert_eq!((persist.number, persist.cut_after), (2, Some(Index(1))));
    replica.persisted(1);
    assert_eq!(replica.log().persisted(), Index(1), "entry 2 of term 1 is gone");
    replica.persisted(2);
    assert_eq!(replica.log().persisted(), Index(2));
}

#[test]
#[should_panic(expected = "follows an entry that counts as 5")]
fn what_entries_count_as_never_falls() {
    let mut replica = replica(1, 1, Log::empty());
    replica.freeze(Term(1));
    replica.lead(Term(1));
    replica.propose(own(5), Bytes::new());
    replica.propose(Mark::After(Revision(4)), Bytes::new());
}

#[test]
#[should_panic(expected = "is committed and is to be cut")]
fn what_is_committed_is_never_cut() {
    let mut replica = replica(1, 1, parse_log("1:2,1:3"));
    replica.freeze(Term(2));
    replica.lead(Term(2));
    replica.propose(Mark::After(Revision(3)), Bytes::new());
    let number = replica.ready().persist.expect("there is the barrier").number;
    replica.persisted(number);
    replica.commit(Revision(3));
    replica.freeze(Term(3));
    replica.cut(Index(1));
}

#[test]
fn appends_stay_within_their_limits() {
    use crate::base::limits::{APPEND_BYTES_MAX, APPENDS_IN_FLIGHT_MAX};
    let mut leader = replica(1, 2, Log::empty());
    leader.freeze(Term(1));
    leader.lead(Term(1));
    leader.propose(Mark::After(Revision(1)), Bytes::new());
    assert_eq!(leader.ready().messages.len(), 1, "one probe");
    let ack = Message { term: Term(1), body: Body::AppendAck { index: Index(1), room_bytes: 9 } };
    assert_eq!(leader.step(MemberId(2), ack), Ok(Heard::Taken));
    let value = Bytes::from(vec![0; APPEND_BYTES_MAX / 2 + 1]);
    for revision in 2..200 {
        leader.propose(own(revision), value.clone());
    }
    let messages = leader.ready().messages;
    assert!(messages.len() <= APPENDS_IN_FLIGHT_MAX, "{} under way", messages.len());
    let bytes: usize =
        messages.iter().map(|(_, m)| if let Body::Append(a) = &m.body { a.entries.len() * value.len() } else { 0 }).sum();
    assert!(bytes <= crate::base::limits::APPEND_BYTES_IN_FLIGHT_MAX + APPEND_BYTES_MAX, "{bytes} bytes under way");
    assert!(messages.iter().all(|(_, m)| matches!(&m.body, Body::Append(a) if a.entries.len() == 1)), "two exceed an append");
    assert!(leader.ready().messages.is_empty(), "full");
    assert_eq!(leader.room_at_quorum(), 9);
}
