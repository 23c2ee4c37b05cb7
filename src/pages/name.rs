//! The names of page files.

use crate::base::GroupId;

/// The name of a group's page file.
pub fn file_name(group: GroupId) -> String {
    format!("group-{:03}.pages", group.get())
}

/// What a page file's name says; `None` for any other name.
pub fn read_file_name(name: &str) -> Option<GroupId> {
    let digits = name.strip_prefix("group-")?.strip_suffix(".pages")?;
    let group = GroupId(digits.parse().ok()?);
    (file_name(group) == name).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_written() {
        assert_eq!(file_name(GroupId(7)), "group-007.pages");
        assert_eq!(read_file_name("group-064.pages"), Some(GroupId(64)));
        for wrong in ["group-7.pages", "group-0007.pages", "group-+07.pages", "group-007.page", "group-.pages"] {
            assert_eq!(read_file_name(wrong), None, "{wrong}");
        }
    }
}
