use std::collections::VecDeque;

use super::*;
use crate::base::{GroupId, Index};
use crate::raft::election::{Awaited, MergedLog, Vote, What};
use crate::raft::script_test::{Command, scripts};
use crate::raft::{GroupReport, Position};

/// Members in memory: their elections, what they asked for, the messages under way.
struct Members {
    now: Instant,
    elections: Vec<Election>,
    cores: u16,
    /// What each member's logs are, by group: the last entry and the configuration.
    reports: Vec<Vec<GroupReport>>,
    stable: Vec<u64>,
    persisting: Vec<VecDeque<(Term, Option<MemberId>)>>,
    freezing: Vec<Option<Term>>,
    network: VecDeque<(MemberId, MemberId, ElectionMessage)>,
}

fn configuration(version: u64, shards: u64, voters: &[u64]) -> Configuration {
    Configuration::new(version, shards as u16, voters.iter().copied().map(MemberId).collect(), vec![]).expect("sound")
}

fn show_message(from: MemberId, to: MemberId, message: &ElectionMessage) -> String {
    let what = match &message.body {
        ElectionBody::PreVote { .. } => "pre-vote?".into(),
        ElectionBody::PreVoteGranted => "pre-vote granted".into(),
        ElectionBody::PreVoteRefused => "pre-vote refused".into(),
        ElectionBody::RequestVote { transfer } => if *transfer { "vote? (transfer)" } else { "vote?" }.into(),
        ElectionBody::Vote(Vote { known_stable, reports }) => {
            let reports: Vec<String> =
                reports.iter().map(|r| format!("{}:{}@{}", r.group, r.last.index, r.last.term)).collect();
            format!("vote, stable {known_stable}, logs [{}]", reports.join(" "))
        }
        ElectionBody::VoteRefused => "vote refused".into(),
        ElectionBody::Heartbeat { round } => format!("heartbeat {round}"),
        ElectionBody::HeartbeatAck { round } => format!("heartbeat ack {round}"),
        ElectionBody::StandNow => "stand now".into(),
    };
    format!("{from}->{to} term {} {what}", message.term)
}

fn show_logs(logs: &[MergedLog]) -> String {
    let logs: Vec<String> =
        logs.iter().map(|l| format!("{}:{}@{} of {}", l.group, l.last.index, l.last.term, l.from)).collect();
    logs.join(", ")
}

fn show(member: u64, effect: &Effect) -> String {
    let or_none = |member: Option<MemberId>| member.map_or("nobody".into(), |m| m.to_string());
    match effect {
        Effect::PersistVote { term, vote } => format!("{member} persists term {term}, vote for {}", or_none(*vote)),
        Effect::FreezeCores { term } => format!("{member} freezes in term {term}"),
        Effect::CloseReign { term } => format!("{member} closes term {term}"),
        Effect::EndReign { term } => format!("{member} ends the reign of term {term}"),
        Effect::Send { to, message } => show_message(MemberId(member), *to, message),
        Effect::Pull { term, group, from, last } => {
            format!("{member} pulls group {group} from {from} up to {}@{} in term {term}", last.index, last.term)
        }
        Effect::TakeOver { term, known_stable, configuration, logs } => {
            let (version, logs) = (configuration.version, show_logs(logs));
            format!("{member} takes over in term {term}, stable {known_stable}, configuration {version}, logs [{logs}]")
        }
        Effect::OpenReign { term } => format!("{member} opens term {term}"),
        Effect::BecomeFollower { term, leader } => format!("{member} follows {leader} in term {term}"),
        Effect::LeaderIs { term, leader } => format!("{member} knows as leader of term {term}: {}", or_none(*leader)),
        Effect::ReadsConfirmed(reads) => format!("{member} confirms reads {reads:?}"),
        Effect::ReadsRefused(reads) => format!("{member} refuses reads {reads:?}"),
    }
}

impl Members {
    fn of(command: &Command<'_>) -> Members {
        let count = command.number("members").expect("members=n");
        let cores = command.number("cores").unwrap_or(1) as u16;
        let voters: Vec<u64> = command.numbers("voters").unwrap_or_else(|| (1..=count).collect());
        let initial = configuration(0, command.number("shards").unwrap_or(1), &voters);
        let election = |me: u64| {
            let options = Options {
                me: MemberId(me),
                cores,
                term: Term(command.number(&format!("term{me}")).unwrap_or(0)),
                vote: command.number(&format!("vote{me}")).map(MemberId),
                initial: initial.clone(),
                configuration: None,
                heartbeat_interval: Duration::from_millis(100),
                election_timeout: Duration::from_millis(1000),
            };
            let mut election = Election::new(Instant::ZERO, options, Prng::new(me));
            election.links = (1..=count).map(MemberId).collect();
            election
        };
        let report = |group| GroupReport { group: GroupId(group), last: Position::default(), configuration: initial.clone() };
        let places = count as usize;
        Members {
            now: Instant::ZERO,
            elections: (1..=count).map(election).collect(),
            cores,
            reports: vec![(0..=initial.shards).map(report).collect(); places],
            stable: vec![1; places],
            persisting: vec![VecDeque::new(); places],
            freezing: vec![None; places],
            network: VecDeque::new(),
        }
    }

    fn take(&mut self, member: u64, effects: Vec<Effect>) -> Vec<String> {
        let place = member as usize - 1;
        for effect in &effects {
            match effect {
                Effect::PersistVote { term, vote } => self.persisting[place].push_back((*term, *vote)),
                Effect::FreezeCores { term } => self.freezing[place] = Some(*term),
                Effect::Send { to, message } => self.network.push_back((MemberId(member), *to, message.clone())),
                _ => {}
            }
        }
        effects.iter().map(|effect| show(member, effect)).collect()
    }

    fn step(&mut self, member: u64, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        self.elections[member as usize - 1].step(self.now, event, &mut effects);
        self.take(member, effects)
    }

    fn start(&mut self, member: u64) -> Vec<String> {
        let mut effects = Vec::new();
        self.elections[member as usize - 1].start(self.now, &mut effects);
        self.take(member, effects)
    }

    fn persisted(&mut self, member: u64) -> Vec<String> {
        let all: Vec<_> = self.persisting[member as usize - 1].drain(..).collect();
        all.into_iter().flat_map(|(term, vote)| self.step(member, Event::VotePersisted { term, vote })).collect()
    }

    /// A core froze; groups live on core group % cores.
    fn frozen(&mut self, member: u64, core: u16) -> Vec<String> {
        let place = member as usize - 1;
        let Some(term) = self.freezing[place] else { return vec!["nothing freezes".into()] };
        let reports = self.reports[place].iter().filter(|r| r.group.0 % self.cores == core).cloned().collect();
        let known_stable = Revision(self.stable[place]);
        self.step(member, Event::CoreFrozen { term, core: CoreId(core), reports, known_stable })
    }

    /// Persists and freezes whatever the members asked for.
    fn enter(&mut self, members: &[u64]) -> Vec<String> {
        let mut out = Vec::new();
        for &member in members {
            out.extend(self.persisted(member));
            if self.freezing[member as usize - 1].is_some() {
                out.extend((0..self.cores).flat_map(|core| self.frozen(member, core)).collect::<Vec<_>>());
                self.freezing[member as usize - 1] = None;
            }
        }
        out
    }

    fn take_messages(&mut self, command: &Command<'_>) -> Vec<(MemberId, MemberId, ElectionMessage)> {
        let links: Vec<&str> = command.plain().collect();
        let means = |from: MemberId, to: MemberId| links.is_empty() || links.contains(&format!("{from}->{to}").as_str());
        let (taken, left): (Vec<_>, Vec<_>) = self.network.drain(..).partition(|(from, to, _)| means(*from, *to));
        self.network = left.into();
        taken
    }

    fn set_log(&mut self, command: &Command<'_>) -> Vec<String> {
        let group = GroupId(command.number("group").expect("group=g") as u16);
        let last = Position {
            term: Term(command.number("term").expect("term=t")),
            index: Index(command.number("last").expect("last=i")),
        };
        let voters = command.numbers("voters");
        let version = command.number("version");
        for member in members(command) {
            let report = self.reports[member as usize - 1].iter_mut().find(|r| r.group == group).expect("a group");
            report.last = last;
            if let (Some(version), Some(voters)) = (version, &voters) {
                report.configuration = configuration(version, u64::from(report.configuration.shards), voters);
            }
        }
        vec![]
    }

    fn answer(&mut self, command: &Command<'_>) -> Vec<String> {
        let each = |this: &mut Members, event: &dyn Fn(&Members, u64) -> Event| -> Vec<String> {
            let all = members(command);
            all.into_iter()
                .flat_map(|m| {
                    let event = event(this, m);
                    this.step(m, event)
                })
                .collect()
        };
        let term_of = |this: &Members, m: u64| this.elections[m as usize - 1].term;
        match command.name {
            "start" => members(command).into_iter().flat_map(|m| self.start(m)).collect(),
            "tick" => {
                self.now = self.now + Duration::from_millis(command.number("ms").expect("ms=n"));
                let stable = command.number("stable").map(|progress| Awaited { what: What::Stable, progress });
                each(self, &|_, _| Event::Tick { awaited: stable.into_iter().collect() })
            }
            "persisted" => members(command).into_iter().flat_map(|m| self.persisted(m)).collect(),
            "frozen" => {
                let core = command.number("core").unwrap_or(0) as u16;
                members(command).into_iter().flat_map(|m| self.frozen(m, core)).collect()
            }
            "enter" => self.enter(&members(command)),
            "deliver" => {
                let messages = self.take_messages(command);
                let times = command.number("times").unwrap_or(1);
                let mut out = Vec::new();
                for (from, to, message) in messages.into_iter().flat_map(|m| (0..times).map(move |_| m.clone())) {
                    out.extend(self.step(to.0, Event::Received { from, message }));
                }
                out
            }
            "drop" => self.take_messages(command).iter().map(|(from, to, m)| show_message(*from, *to, m)).collect(),
            "log" => self.set_log(command),
            "stable" => {
                self.stable[command.member() as usize - 1] = command.number("revision").expect("revision=r");
                vec![]
            }
            "extent" => {
                let (start, last) = (command.number("start").expect("start=i"), command.number("last").expect("last=i"));
                let extent = LogExtent { group: GroupId(0), start: Index(start), last: Index(last) };
                each(self, &|_, _| Event::Logs(vec![extent]))
            }
            "link" => {
                let (peer, working) = (MemberId(command.number("peer").expect("peer=m")), command.number("working") == Some(1));
                each(self, &|_, _| Event::LinkChanged { peer, working })
            }
            "ended" => {
                let (reign, stable) = (command.number("term").expect("term=t"), command.number("stable").expect("stable=w"));
                each(self, &|_, _| Event::ReignEnded { term: Term(reign), stable: Revision(stable) })
            }
            "pulled" => {
                let group = GroupId(command.number("group").expect("group=g") as u16);
                each(self, &|this, m| Event::Pulled { term: term_of(this, m), group })
            }
            "durable" => each(self, &|this, m| Event::BarriersDurable { term: term_of(this, m) }),
            "later" => {
                let (term, leader) = (command.number("term").expect("term=t"), command.number("leader").map(MemberId));
                each(self, &|_, _| Event::LaterTerm { term: Term(term), leader })
            }
            "read" => each(self, &|_, _| Event::ConfirmRead(command.number("token").expect("token=n"))),
            "transfer" => each(self, &|_, _| Event::Transfer(MemberId(command.number("to").expect("to=m")))),
            other => panic!("there is no command {other}"),
        }
    }
}

fn members(command: &Command<'_>) -> Vec<u64> {
    command.plain().map(|m| m.parse().unwrap_or_else(|_| panic!("{m} is no member"))).collect()
}

scripts! { "cluster" => Members;
    alone
    three_members
    split_vote
    pre_votes
    votes
    old_reign_first
    merging
    standing_down
    following
    reads
    transfer
    restart
}
