//! The ids of a member and of its cluster, as etcd computes them (`membership.computeMemberID`, `RaftCluster.genID`).

use crate::base::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member of a new cluster: its peer URLs in order, then the cluster's token.
pub fn initial_member_id<S: AsRef<str>>(peer_urls: &[S], token: &str) -> MemberId {
    member_id(peer_urls, token.as_bytes())
}

/// The id of a member that is added to a running cluster: its peer URLs in order, then the time in seconds, written in decimal.
pub fn added_member_id<S: AsRef<str>>(peer_urls: &[S], unix_seconds: u64) -> MemberId {
    member_id(peer_urls, unix_seconds.to_string().as_bytes())
}

/// The id of a cluster that starts with these members.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|m| m.get()).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    ClusterId(first_eight(&Sha1::digest(&bytes)))
}

fn member_id<S: AsRef<str>>(peer_urls: &[S], behind: &[u8]) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(behind);
    MemberId(first_eight(&hash.finalize()))
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_member_has_etcds_ids() {
        let member = initial_member_id(&["http://localhost:2380"], "etcd-cluster");
        assert_eq!(member, MemberId(0x8e9e05c52164694d));
        assert_eq!(cluster_id(&[member]), ClusterId(0xcdf818194e3a8c32));
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let a = initial_member_id(&["http://b:1", "http://a:1"], "t");
        let b = initial_member_id(&["http://a:1", "http://b:1"], "t");
        assert_eq!(a, b);
        assert_ne!(a, initial_member_id(&["http://a:1"], "t"));
        assert_ne!(a, added_member_id(&["http://a:1", "http://b:1"], 1));
        assert_eq!(cluster_id(&[a, MemberId(1)]), cluster_id(&[MemberId(1), b]));
    }
}
