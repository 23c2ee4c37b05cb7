//! Who made what: revisions and those that may have made them, paired off so that everybody made one revision at most.

/// Pairs every revision with one of its candidates, no candidate twice. `candidates[revision]` are the numbers, below `makers`, of
/// those that may have made it.
///
/// # Errors
/// A revision that is left over however the others are paired.
pub fn pair_off(candidates: &[Vec<usize>], makers: usize) -> Result<(), usize> {
    let mut made: Vec<Option<usize>> = vec![None; makers];
    for revision in 0..candidates.len() {
        let mut asked = vec![false; makers];
        if !claim(revision, candidates, &mut made, &mut asked) {
            return Err(revision);
        }
    }
    Ok(())
}

/// Gives the revision a maker, moving those that have one to another where that helps (an augmenting path).
fn claim(revision: usize, candidates: &[Vec<usize>], made: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for &maker in &candidates[revision] {
        if std::mem::replace(&mut asked[maker], true) {
            continue;
        }
        if made[maker].is_none_or(|other| claim(other, candidates, made, asked)) {
            made[maker] = Some(revision);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::pair_off;

    #[test]
    fn a_maker_is_moved_when_another_revision_has_no_other() {
        // Taking the first that fits gives maker 0 to the first revision, and leaves none to the second.
        assert_eq!(pair_off(&[vec![0, 1], vec![0]], 2), Ok(()));
        assert_eq!(pair_off(&[vec![0, 1], vec![1, 2], vec![0]], 3), Ok(()));
    }

    #[test]
    fn what_nobody_made_is_left_over() {
        assert_eq!(pair_off(&[vec![0], vec![0]], 1), Err(1));
        assert_eq!(pair_off(&[vec![]], 1), Err(0));
        assert_eq!(pair_off(&[vec![0, 1], vec![0, 1], vec![1, 0]], 2), Err(2));
    }
}
