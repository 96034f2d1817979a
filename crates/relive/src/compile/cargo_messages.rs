//! cargo's messages: takes a line of its stdout, gives what relive needs to know of it.

use std::path::PathBuf;

use serde::Deserialize;

/// The messages of cargo that matter here; others are read over.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Message {
    /// A crate is up to date now.
    CompilerArtifact(Artifact),
    /// A build script has run, now or earlier.
    BuildScriptExecuted(Script),
    /// Anything else.
    #[serde(other)]
    Other,
}

impl Message {
    /// The message in `line`; `None` if it is none, as what a build script or a wrapper says.
    #[must_use]
    pub fn read(line: &str) -> Option<Message> {
        // A list that begins with a reason would be taken for a message as well.
        line.trim_start().starts_with('{').then(|| serde_json::from_str(line).ok())?
    }
}

/// A crate that is up to date.
#[derive(Debug, Deserialize)]
pub struct Artifact {
    pub(crate) package_id: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) target: Target,
    pub(crate) filenames: Vec<PathBuf>,
}

impl Artifact {
    /// Whether its sources lie where the user keeps them, and not in a registry or a checkout of cargo's.
    pub(crate) fn is_local(&self) -> bool {
        is_local(&self.package_id)
    }
}

/// Which target of its package an artifact is.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

/// A build script that has run.
#[derive(Debug, Deserialize)]
pub struct Script {
    pub(crate) package_id: String,
    pub(crate) out_dir: PathBuf,
}

impl Script {
    /// Whether the package's sources lie where the user keeps them.
    pub(crate) fn is_local(&self) -> bool {
        is_local(&self.package_id)
    }
}

fn is_local(package_id: &str) -> bool {
    package_id.contains("path+file:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo() {
        let text = r#"{"reason":"compiler-artifact","package_id":"a","target":{"kind":["lib"],"name":"x"},"manifest_path":"/m","filenames":["/f"],"fresh":true}"#;
        assert!(matches!(Message::read(text), Some(Message::CompilerArtifact(a)) if a.target.name == "x"));
        assert!(matches!(Message::read(r#"{"reason":"build-finished","success":true}"#), Some(Message::Other)));
        assert!(Message::read("cargo:rerun-if-changed=x").is_none());
        assert!(Message::read(r#"["build-finished"]"#).is_none());
    }
}
