//! The text files of the workspace, for the checks that read them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::run;

/// What is not written by hand. In a linked worktree `.git` is a file.
const FOREIGN: [&str; 2] = [".git", "target"];

/// A text file of the workspace.
pub struct Source {
    /// Path from the workspace's root, with slashes.
    pub path: String,
    /// Its contents.
    pub text: String,
}

impl Source {
    /// The number of the line that holds the byte at `offset`, from 1.
    pub fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// The part below `directory`, if the file is there.
    pub fn below(&self, directory: &str) -> Option<&str> {
        self.path.strip_prefix(directory)?.strip_prefix('/')
    }
}

/// All text files of the workspace, in the order of their paths.
pub fn all() -> Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(run::workspace(), "", &mut found)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if FOREIGN.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_read_without_what_is_built() {
        let sources = all().unwrap();
        assert!(sources.iter().any(|source| source.path == "Cargo.toml"));
        assert!(sources.iter().any(|source| source.below("xtask/src") == Some("sources.rs")));
        assert!(!sources.iter().any(|source| source.path.starts_with("target/")));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source { path: "a".into(), text: "x\ny\n".into() };
        assert_eq!((source.line_at(0), source.line_at(2)), (1, 2));
    }
}
