//! What the agent hands on of its own environment to the scripts that it runs.

use std::ffi::OsString;

/// The variables of this process whose names are wanted. A name that is not Unicode never is.
pub fn inherited_variables(is_wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&is_wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_handed_on() {
        assert!(inherited_variables(|_| true).len() > 1);
        assert!(inherited_variables(|name| name == "PATH").iter().all(|(name, _)| name.to_str() == Some("PATH")));
        assert!(inherited_variables(|_| false).is_empty());
    }
}
