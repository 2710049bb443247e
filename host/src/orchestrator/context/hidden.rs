//! Paths of this machine, which no planner sees: in their place stands what a guest calls them.

use crate::policy::Policy;

/// Directories of this machine with the mounts that guests know them by.
#[derive(Clone, Debug, Default)]
pub(in crate::orchestrator) struct Hidden {
    /// Longest first, so that a directory is told before the one around it.
    paths: Vec<(String, String)>,
}

impl Hidden {
    /// Knows the directories that a policy names.
    pub(in crate::orchestrator) fn of(policy: &Policy) -> Self {
        let files = policy.rules.iter().flat_map(|rule| &rule.files);
        let paths = files.map(|file| (file.path.to_string_lossy().into_owned(), file.mount.clone()));
        // A root directory stands in every path, and tells nothing.
        let mut paths: Vec<(String, String)> = paths.filter(|(path, _)| path.len() > 1).collect();
        paths.sort_by(|a, b| (b.0.len(), &a.0).cmp(&(a.0.len(), &b.0)));
        paths.dedup_by(|a, b| a.0 == b.0);
        Self { paths }
    }

    /// Returns `text` with each of the paths replaced.
    pub(in crate::orchestrator) fn out_of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, mount) in &self.paths {
            if text.contains(path.as_str()) {
                text = text.replace(path.as_str(), mount);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_directory_goes_by_its_mount() {
        let text = "version = 0\n[[rule]]\nname = 'a'\nwhy = 'w'\nallow = ['x.*']\nfiles = [\
            { mount = '/data', path = 'shop', access = 'read' }, { mount = '/in', path = 'shop/in', access = 'read' }]";
        let hidden = Hidden::of(&Policy::parse(text, Path::new("/home/ann")).unwrap());
        assert_eq!(hidden.out_of("open /home/ann/shop/in/a and /home/ann/shop/b"), "open /in/a and /data/b");
        assert_eq!(Hidden::default().out_of("open /etc"), "open /etc");
    }
}
