//! The first start of a member: who is in the initial cluster, and whether it fits what the member says of itself.

use super::parse::ConfigError;
use super::settings::{Config, InitialClusterState};
use super::url::Url;
use std::collections::{BTreeMap, BTreeSet};

/// The one member of a new cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// Its peer URLs, sorted and distinct: with the token they make its id.
    pub peer_urls: Vec<String>,
    /// The cluster's token.
    pub token: String,
}

/// etcd's `NewURLsMap` and `VerifyBootstrap`, and what cannot be started yet.
pub(super) fn initial_member(config: &Config) -> Result<InitialMember, ConfigError> {
    let members = read_initial_cluster(&config.initial_cluster)?;
    let name = &config.name;
    let Some(urls) = members.get(name.as_str()) else {
        let quoted = super::go_quote(name);
        return Err(ConfigError::refused(format!("couldn't find local name {quoted} in the initial cluster configuration")));
    };
    if config.initial_cluster_state == InitialClusterState::Existing {
        return Err(ConfigError::refused(
            "--initial-cluster-state=existing is not supported by etcring yet: a member cannot join an existing cluster",
        ));
    }
    check_advertised(config, urls)?;
    let mut seen = BTreeSet::new();
    if !members.values().flatten().all(|u| seen.insert(u.as_str())) {
        return Err(ConfigError::refused(format!("initial cluster {} has duplicate url", config.initial_cluster)));
    }
    if members.len() > 1 {
        return Err(ConfigError::refused(format!(
            "--initial-cluster names {} members: etcring does not support more than one yet",
            members.len()
        )));
    }
    let peer_urls = urls.iter().map(|u| u.as_str().to_owned()).collect();
    Ok(InitialMember { name: name.clone(), peer_urls, token: config.initial_cluster_token.clone() })
}

/// `name=url,name=url`, a name once for each of its URLs.
fn read_initial_cluster(text: &str) -> Result<BTreeMap<&str, Vec<Url>>, ConfigError> {
    let mut members: BTreeMap<&str, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let url = Url::parse(url).map_err(|why| ConfigError::refused(format!("error setting up initial cluster: {why}")))?;
        members.entry(name).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    }
    Ok(members)
}

/// The member's peer URLs in the initial cluster are those that it advertises. Names of hosts are compared as written.
fn check_advertised(config: &Config, urls: &[Url]) -> Result<(), ConfigError> {
    let initial: BTreeSet<&str> = urls.iter().map(Url::as_str).collect();
    let advertised: BTreeSet<&str> = config.initial_advertise_peer_urls.iter().map(Url::as_str).collect();
    let name = &config.name;
    let pairs = |urls: &BTreeSet<&str>| urls.iter().map(|u| format!("{name}={u}")).collect::<Vec<_>>().join(",");
    let list = |urls: &BTreeSet<&str>| urls.iter().copied().collect::<Vec<_>>().join(",");
    let missing: BTreeSet<&str> = initial.difference(&advertised).copied().collect();
    if !missing.is_empty() {
        return Err(ConfigError::refused(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
            pairs(&missing),
            list(&advertised)
        )));
    }
    let missing: BTreeSet<&str> = advertised.difference(&initial).copied().collect();
    if !missing.is_empty() {
        return Err(ConfigError::refused(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            list(&missing),
            pairs(&initial)
        )));
    }
    Ok(())
}
